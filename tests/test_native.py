"""C that is compiled when it is needed: kept, made anew where anything changed, and done without where it cannot be made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpt_kit.native import compiled_c

make = compiled_c.__wrapped__  # as in a new process


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if make(written(tmp_path / "answer.c", 42)) is None:
        pytest.skip("no C compiler")
    return tmp_path / "answer.c"


def written(path: Path, answer: int) -> Path:
    path.write_text(f"int answer(void) {{ return {answer}; }}")
    return path


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "gpt-kit").iterdir())


def test_it_is_made_once(source: Path, tmp_path: Path) -> None:
    (library,) = kept(tmp_path)
    made = library.stat().st_mtime_ns
    assert make(source).answer() == 42
    assert [path.stat().st_mtime_ns for path in kept(tmp_path)] == [made]


def test_whatever_decides_makes_another(source: Path, tmp_path: Path) -> None:
    """Other flags, another text, another text that it includes."""
    assert make(source, "-O2").answer() == 42 and len(kept(tmp_path)) == 2
    assert make(written(source, 43)).answer() == 43 and len(kept(tmp_path)) == 3
    (tmp_path / "number.h").write_text("enum { NUMBER = 44 };")
    source.write_text('#include "number.h"\nint answer(void) { return NUMBER; }')
    assert make(source).answer() == 44
    (tmp_path / "number.h").write_text("enum { NUMBER = 45 };")
    assert make(source).answer() == 45


def test_what_is_damaged_is_made_anew(source: Path, tmp_path: Path) -> None:
    (library,) = kept(tmp_path)
    whole = library.read_bytes()
    for damaged in (b"", whole[:100], b"no library"):
        os.replace(_file(tmp_path / "damaged", damaged), library)
        assert make(source).answer() == 42
        assert library.read_bytes()[:4] == b"\x7fELF" and kept(tmp_path) == [library]


def test_a_cache_that_cannot_be_written_is_done_without(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (_file(tmp_path / "file", b""), Path("/proc/none")):
        monkeypatch.setenv("XDG_CACHE_HOME", str(place))
        assert make(source).answer() == 42


def test_c_that_cannot_be_made_is_none(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b.c").write_text("int answer(void) { return")
    assert make(tmp_path / "b.c") is None
    (tmp_path / "c.c").write_text("int missing(void); int answer(void) { return missing(); }")
    assert make(tmp_path / "c.c", "-Wl,-z,now") is None, "a library that cannot be loaded"
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    assert make(source, "-O2") is None


def _file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
