"""Every kind of damage, under every policy: named by file and line, counted, repaired or left out, and nothing dropped in silence."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpt_kit.config import CorpusConfig
from gpt_kit.data import damage, plain_text, prepare_corpus
from gpt_kit.data.damage import LONGEST_RUN, Damage
from gpt_kit.data.sources import Source
from gpt_kit.errors import DataError

GOOD = [json.dumps({"text": f"good {i}"}).encode() for i in range(3)]
LINES = {
    "bad UTF-8": (b'{"text": "a\xffb"}', "a\ufffdb"),
    "NUL": (b'{"text": "a\\u0000b"}', "a\ufffdb"),
    "lone surrogate": (b'{"text": "a\\ud83db"}', "a\ufffdb"),
    "not JSON": (b'{"text": "ab"', None),
    "key missing": (b'{"txt": "ab"}', None),
    "not a string": (b'{"text": 7}', None),
    "long line": (b'{"text": "' + b"word " * 400 + b'"}', None),
    "long run": (b'{"text": "a' + b"=" * 2000 + b'b"}', "a" + "=" * 300 + "b"),
}
TEXTS = {
    "bad UTF-8": (b"one\ntw\xffo\nthree\n", "one\ntw\ufffdo\nthree\n", "one\nthree\n"),
    "NUL": (b"one\ntw\0o\nthree\n", "one\ntw\ufffdo\nthree\n", "one\nthree\n"),
    "long run": (b"one\ntw" + b"-" * 2000 + b"o\nthree\n", "one\ntw" + "-" * 300 + "o\nthree\n", "one\nthree\n"),
}


@pytest.fixture(autouse=True)
def _limits_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage, "LONGEST_RUN", 300)
    monkeypatch.setattr(damage, "LONGEST_LINE", 1500)


def config(policy: str) -> CorpusConfig:
    return CorpusConfig(tokenizer="byte", on_damaged=policy, val_fraction=0.0)


def prepared(path: Path, policy: str) -> tuple[list[str], dict, list[str]]:
    """Documents, the report, and the notes."""
    notes: list[str] = []
    corpus = prepare_corpus(str(path), path.with_name(f"{path.name}-{policy}"), config(policy), note=notes.append)
    ids = corpus.train.read(0, len(corpus.train)).tolist()
    parts = bytes(number if number < 256 else 0 for number in ids).split(b"\0")
    report = corpus.info["read"]
    assert report["documents"] == corpus.info["train"]["documents"] + report["empty"] + sum(report["skipped"].values())
    return [part.decode() for part in parts[1:]], report, notes


@pytest.mark.parametrize("kind", LINES)
def test_a_damaged_record_by_policy(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "long run":
        monkeypatch.setattr(damage, "LONGEST_LINE", 10_000)
    line, repaired = LINES[kind]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([GOOD[0], GOOD[1], line, GOOD[2]]))
    with pytest.raises(DataError, match=rf"^{path}:3: ") as caught:
        prepare_corpus(str(path), tmp_path / "out", config("error"))
    assert isinstance(caught.value, Damage) and caught.value.kind == kind and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    documents, report, notes = prepared(path, "skip")
    assert documents == ["good 0", "good 1", "good 2"]
    assert report["skipped"] == {kind: 1} and not report["repaired"]
    assert len(notes) == 1 and notes[0].startswith(f"left out: {path}:3: ")
    documents, report, notes = prepared(path, "replace")
    assert documents == ["good 0", "good 1", *([repaired] if repaired else []), "good 2"]
    assert (report["repaired"], report["skipped"]) == (({kind: 1}, {}) if repaired else ({}, {kind: 1}))
    assert len(notes) == 1 and f"{path}:3: " in notes[0]


@pytest.mark.parametrize("kind", TEXTS)
def test_a_damaged_line_of_a_text_by_policy(tmp_path: Path, kind: str) -> None:
    """The line is the unit of damage: a book does not go for one byte."""
    content, repaired, skipped = TEXTS[kind]
    path = tmp_path / "a.txt"
    path.write_bytes(b"first<|endoftext|>" + content)
    with pytest.raises(Damage, match=rf"^{path}:2: "):
        prepare_corpus(str(path), tmp_path / "out", config("error"))
    documents, report, _ = prepared(path, "skip")
    assert documents == ["first", skipped] and report["skipped_lines"] == {kind: 1}
    documents, report, _ = prepared(path, "replace")
    assert documents == ["first", repaired] and report["repaired"] == {kind: 1}


def test_a_text_in_one_endless_line_by_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes in pieces, so it is never held; skipped, its beginning stays and the next line follows."""
    monkeypatch.setattr("gpt_kit.data.pieces.PIECE_BYTES", 1000)
    monkeypatch.setattr(plain_text, "CHUNK_BYTES", 100)
    path = tmp_path / "a.txt"
    path.write_text("word " * 2000 + "end\nnext line\n")
    with pytest.raises(Damage, match=r"a.txt:1: this line is longer than 1,500 bytes"):
        prepare_corpus(str(path), tmp_path / "out", config("error"))
    documents, report, _ = prepared(path, "skip")
    assert documents == ["word " * 200 + "next line\n"] and report["skipped_lines"] == {"long line": 1}
    documents, report, _ = prepared(path, "replace")
    assert documents == [path.read_text()] and report["repaired"] == {"long line": 1}


def test_a_long_line_is_never_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 MB in one line of JSON between two sound ones: a few MB of memory. (With a limit of 1 MB instead of 64.)"""
    import tracemalloc

    monkeypatch.setattr(damage, "LONGEST_LINE", 1_000_000)
    path = tmp_path / "a.jsonl"
    with open(path, "wb") as file:
        file.write(GOOD[0] + b'\n{"text": "')
        for _ in range(100):
            file.write(b"0123456789" * 100_000)
        file.write(b'"}\n' + GOOD[1])
    tracemalloc.start()
    try:
        found = [item for _, item in Source(str(path)).read()]
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()
    assert [getattr(item, "text", None) or item.kind for item in found] == ["good 0", "long line", "good 1"]
    assert found[2].origin == f"{path}:3"


def test_what_is_no_damage_is_put_right_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([GOOD[0], b"", b'{"text": " "}', GOOD[1]]) + b"\r\n")
    documents, report, notes = prepared(path, "error")
    assert documents == ["good 0", "good 1"] and not notes
    assert report["empty"] == 1 and report["documents"] == 3
    assert report["normalised"] == {"byte order mark": 1, "CRLF line end": 4, "empty line": 1}
    path = tmp_path / "b.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n<|endoftext|>\n \n<|endoftext|>three")
    documents, report, _ = prepared(path, "error")
    assert documents == ["one\ntwo\n", "three"]
    assert (report["empty"], report["normalised"]) == (1, {"byte order mark": 1, "CRLF line end": 2})


def test_damaged_parquet_and_json_records_by_policy(tmp_path: Path) -> None:
    bad = pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\3\0\0\0\5\0\0\0"), pa.py_buffer(b"a\xffbok")])
    pq.write_table(pa.table({"text": bad}), tmp_path / "a.parquet")
    assert prepared(tmp_path / "a.parquet", "skip")[0] == ["ok"]
    assert prepared(tmp_path / "a.parquet", "replace")[0] == ["a\ufffdb", "ok"]
    (tmp_path / "b.json").write_bytes(b'["a", "\xff", 3, "b"]')
    assert prepared(tmp_path / "b.json", "replace")[:2] == (
        ["a", "\ufffd", "b"],
        {"documents": 4, "empty": 0, "normalised": {}, "skipped": {"not a string": 1}, "skipped_lines": {}, "repaired": {"bad UTF-8": 1}},
    )


def test_a_flood_of_damage_is_counted_and_not_told_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([GOOD[0], *[b"{"] * 500]))
    _, report, notes = prepared(path, "skip")
    assert report["skipped"] == {"not JSON": 500}
    assert len(notes) == 6 and notes[-1] == "more damage is counted and not told one by one"


def test_runs_are_found_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 301 equal characters and not of 300, at every offset."""
    monkeypatch.setattr(damage, "LONGEST_RUN", 300)
    for start in range(0, 700, 7):
        for length, found in ((300, False), (301, True), (700, True)):
            text = "ab" * (start // 2) + "b" * (start % 2) + "=" * length + "cd" * 100
            run = damage._long_run(text)
            assert run == ((start, start + length) if found else None)
    assert LONGEST_RUN == 100_000


def test_the_command_prints_what_was_left_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from gpt_kit.__main__ import main

    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([*GOOD, b"{", b'{"text": ""}', b'{"text": "\xff"}']))
    assert main(["prepare", str(path), "--out", str(tmp_path / "out"), "--tokenizer", "byte", "--on-damaged", "skip"]) == 0
    out = capsys.readouterr().out
    assert f"note: left out: {path}:4: not valid JSON" in out
    assert "left out: 1 empty, 1 bad UTF-8, 1 not JSON" in out
    assert main(["info", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "left out: 1 empty, 1 bad UTF-8, 1 not JSON" in told and "leaks       0 of 0 validation documents compared" in told


@pytest.mark.parametrize("length", [301, 1050, 3500])
def test_a_run_over_several_pieces_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    """It is told once; repaired, as much of it stays as of a short one; left out, so is the rest of its line, and not the next."""
    monkeypatch.setattr("gpt_kit.data.pieces.PIECE_BYTES", 1000)
    monkeypatch.setattr(damage, "LONGEST_LINE", 10_000)
    path = tmp_path / "a.txt"
    path.write_text("one\n" + "ab " * 300 + "=" * length + "cd" * 800 + "\nthree\n")
    [document], report, _ = prepared(path, "replace")
    assert document == path.read_text().replace("=" * length, "=" * 300)
    assert report["repaired"] == {"long run": 1}
    [document], report, _ = prepared(path, "skip")
    assert report["skipped_lines"] == {"long run": 1}
    assert "cd" not in document and document.startswith("one\n") and document.endswith("three\n") and document.count("=") <= 300


def test_the_rest_of_a_damaged_line_is_left_out_however_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bad byte in a line of five pieces: what was read before the damage stays, nothing behind it, and it counts once."""
    monkeypatch.setattr("gpt_kit.data.pieces.PIECE_BYTES", 1000)
    monkeypatch.setattr(damage, "LONGEST_LINE", 10_000)
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\n" + b"word " * 10 + b"\xff" + b"word " * 1000 + b"\nthree\n")
    documents, report, _ = prepared(path, "skip")
    assert documents == ["one\nthree\n"] and report["skipped_lines"] == {"bad UTF-8": 1}
