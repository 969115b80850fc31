"""Files and folders are written whole or not at all; a full disk and a second writer are explained."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from gpt_kit.errors import CheckpointError, DataError, FolderInUseError, GPTKitError
from gpt_kit.files import (
    atomic_folder,
    check_manifest,
    lock_folder,
    read_json,
    read_tensors,
    resumable_folder,
    write_atomically,
    write_json,
    write_tensors,
)


def fill_disk(monkeypatch: pytest.MonkeyPatch, code: int = errno.ENOSPC) -> None:
    """From now on every flush to the disk fails as on a full one."""

    def full(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)


def test_a_file_is_replaced_whole_and_leaves_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    for content, expected in (("erste Zeile ü", "erste Zeile ü".encode()), (b"\x00\xff", b"\x00\xff")):
        write_atomically(path, content)
        assert path.read_bytes() == expected
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_the_old_file_and_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    write_atomically(tmp_path / "file", "old")
    fill_disk(monkeypatch, code)
    with pytest.raises(GPTKitError, match=r"the disk is full \(3 bytes needed, [\d,]+ bytes free\)") as caught:
        write_atomically(tmp_path / "file", "new")
    assert caught.value.exit_code == 1
    assert (tmp_path / "file").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_other_errors_of_the_system_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_disk(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        write_atomically(tmp_path / "file", "new")


def test_a_folder_appears_whole_with_its_manifest(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "made") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "a.txt").write_text("a")
        (folder / "b.txt").write_text("b")
        assert not (tmp_path / "made").exists()
    check_manifest(tmp_path / "made")
    assert read_json(tmp_path / "made" / "MANIFEST.json").keys() == {"inner/a.txt", "b.txt"}
    assert [p.name for p in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError(errno.ENOSPC, "full")])
@pytest.mark.parametrize("existed", [True, False])
def test_an_error_inside_leaves_what_was_there(tmp_path: Path, error: BaseException, existed: bool) -> None:
    if existed:
        with atomic_folder(tmp_path / "made") as folder:
            (folder / "a.txt").write_text("old")
    with pytest.raises((KeyboardInterrupt, ValueError, GPTKitError)), atomic_folder(tmp_path / "made") as folder:
        (folder / "a.txt").write_text("new")
        raise error
    assert [p.name for p in tmp_path.iterdir()] == (["made"] if existed else [])
    if existed:
        check_manifest(tmp_path / "made")
        assert (tmp_path / "made" / "a.txt").read_text() == "old"


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with atomic_folder(tmp_path / "made") as folder:
            (folder / name).write_text(name)
    assert {p.name for p in (tmp_path / "made").iterdir()} == {"new", "MANIFEST.json"}
    assert [p.name for p in tmp_path.iterdir()] == ["made"]


def test_other_files_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    """A model saved beside somebody's notes, twice: the model is the second one, the notes are theirs, the manifest is true."""
    made = tmp_path / "made"
    made.mkdir()
    (made / "notes.txt").write_text("mine")
    (made / "deep" / "er").mkdir(parents=True)
    (made / "deep" / "er" / "x").write_text("too")
    (made / "link").symlink_to("notes.txt")
    for content in ("first", "second"):
        with atomic_folder(made, keep_others=True) as folder:
            (folder / "model").write_text(content)
    assert {str(p.relative_to(made)) for p in made.rglob("*") if p.is_file()} == {
        "notes.txt", "deep/er/x", "link", "model", "MANIFEST.json",
    }  # fmt: skip
    assert (made / "model").read_text() == "second" and (made / "notes.txt").read_text() == "mine" and (made / "link").is_symlink()
    check_manifest(made)


def test_a_file_or_the_current_folder_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("precious")
    monkeypatch.chdir(tmp_path)
    for place, what in ((tmp_path / "file", "a file"), (Path(), "current folder"), (tmp_path, "current folder")):
        with pytest.raises(DataError, match=what), atomic_folder(place, keep_others=True):
            pass
    assert (tmp_path / "file").read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_saved_tensors_can_be_read_by_those_who_can_read_other_files(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(1)})
    (tmp_path / "plain").touch()
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("content", ["{", "[1, 2]", "null", '{"a.txt": 3}', "\xff"])
def test_a_manifest_that_is_damaged_itself_is_a_damaged_checkpoint(tmp_path: Path, content: str) -> None:
    """Whoever looks for the newest sound checkpoint catches CheckpointError, and nothing else."""
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "MANIFEST.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"MANIFEST\.json|a\.txt"):
        check_manifest(tmp_path)


def test_tensors_come_back_with_the_mark_that_transformers_asks_for(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(3), "c": torch.zeros(0, 4, dtype=torch.uint8)}
    write_tensors(tmp_path / "x.safetensors", tensors)
    found = read_tensors(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in tensors.items())
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_broken_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    (tmp_path / "cut.json").write_text('{\n"a": ')
    for read, name, error in (
        (read_tensors, "cut.safetensors", CheckpointError),
        (read_tensors, "none.safetensors", CheckpointError),
        (read_json, "cut.json", DataError),
        (read_json, "none.json", DataError),
    ):
        with pytest.raises(error, match=name.replace(".", r"\.")):
            read(tmp_path / name)


def test_json_keeps_every_letter(tmp_path: Path) -> None:
    value = {"prompt": "ünïcode 漢 😀 \x01", "numbers": [1, 0.1, None, True]}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value


def test_a_folder_has_one_writer_and_the_second_is_told_who(tmp_path: Path) -> None:
    """Another process holds it; when that process is killed the folder is free at once: no lock can be stale."""
    code = "import sys, pathlib, gpt_kit.files as f\nwith f.lock_folder(pathlib.Path(sys.argv[1])): print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(FolderInUseError, match=rf"another run \(process {holder.pid} on .+\).*--out"), lock_folder(tmp_path / "run"):
            pass
        holder.kill()
        holder.wait()
        with lock_folder(tmp_path / "run"):
            assert (tmp_path / "run" / ".lock").read_text().startswith(f"{os.getpid()} on ")


HALF = """
import sys, pathlib, gpt_kit.files as f
with f.atomic_folder(pathlib.Path(sys.argv[1])) as folder:
    (folder / "half.txt").write_text("half")
    print(folder, flush=True)
    input()
"""


def test_what_a_killed_writer_left_goes_with_the_next_one_and_what_a_living_one_makes_stays(tmp_path: Path) -> None:
    """Of two writers one is killed. Folders of other names are nobody's left-overs: nor is the resumable one of such a name."""
    others = [tmp_path / name for name in (".incomplete-made-of-0123abcd", ".incomplete-made-0123abcd", ".incomplete-mad-0123abcd")]
    for other in others:
        other.mkdir()
    (others[1] / ".lock").write_text("1 on here")  # what `resumable_folder` leaves for "made-0123abcd"
    words = [sys.executable, "-c", HALF, str(tmp_path / "made")]
    with (
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as living,
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killed,
    ):
        halves = [Path(process.stdout.readline().strip()) for process in (living, killed) if process.stdout]
        killed.kill()
        killed.wait()
        assert all((half / "half.txt").is_file() for half in halves)
        for write in (atomic_folder, resumable_folder):
            with write(tmp_path / "made") as folder:
                (folder / "a.txt").write_text("whole")
                assert (halves[0] / "half.txt").is_file() and not halves[1].exists()
        living.communicate("\n")
    assert living.returncode == 0
    assert {path.name for path in (tmp_path / "made").iterdir()} == {"half.txt", "MANIFEST.json"}
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "made"])


def test_a_left_over_of_another_machine_stays(tmp_path: Path) -> None:
    """Whether its writer lives cannot be told from here: some disks keep locks to themselves."""
    (tmp_path / ".incomplete-made-0123abcd").mkdir()
    (tmp_path / ".incomplete-made-0123abcd" / ".writer").write_text("another-machine")
    with atomic_folder(tmp_path / "made"):
        pass
    assert (tmp_path / ".incomplete-made-0123abcd").is_dir()


def test_a_file_that_a_kill_left_half_written_does_not_end_up_in_the_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), resumable_folder(tmp_path / "made") as folder:
        (folder / ".incomplete-info.json-0123abcd").write_text("{")
        raise KeyboardInterrupt
    with resumable_folder(tmp_path / "made") as folder:
        (folder / "info.json").write_text("{}")
    assert {path.name for path in (tmp_path / "made").iterdir()} == {"info.json", "MANIFEST.json"}


def test_a_lock_leaves_nothing_behind_but_what_was_there(tmp_path: Path) -> None:
    """A folder made for the lock goes when it stays empty; one that somebody made, or removed meanwhile, is theirs."""
    with lock_folder(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with lock_folder(tmp_path / "old"):
        pass
    assert (tmp_path / "old").is_dir()
    with lock_folder(tmp_path / "gone"):
        shutil.rmtree(tmp_path / "gone")
