"""Sources that are larger than memory should be: one reading, the same bytes whatever the threads, and after a kill at any moment."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from gpt_kit.config import CorpusConfig
from gpt_kit.data import damage, encoding, large, pieces, prepare, prepare_corpus
from gpt_kit.errors import ConfigError, DataError, FolderInUseError
from gpt_kit.files import check_manifest, incomplete_folder, lock_folder
from gpt_kit.tokenizers.simple import ByteTokenizer

BYTES = CorpusConfig(tokenizer="byte")
END = 256


@pytest.fixture(autouse=True)
def _small_is_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "SMALL_BYTES", 30_000)
    monkeypatch.setattr(large, "JOURNAL_BYTES", 30_000)
    monkeypatch.setattr(encoding, "UNIT_BYTES", 5_000)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 4_000)


def words(count: int, seed: int) -> str:
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("abcdeäö漢", k=rng.randint(2, 9))) + ".\n" * (rng.random() < 0.2) for _ in range(count))


def texts_of(count: int) -> list[str]:
    return [f"document {i}\n{words(40 + i * 37 % 200, i)}" for i in range(count)]


@pytest.fixture(scope="module")
def folder_of_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two .jsonl and two .txt files, with repeats, a long document and damage to pass over: some 300 kB."""
    folder = tmp_path_factory.mktemp("texts")
    texts = texts_of(300) + texts_of(20)
    for number in range(2):
        rows = [json.dumps({"text": text}) for text in texts[number * 80 : number * 80 + 80]]
        (folder / f"a{number}.jsonl").write_text("\n".join([*rows, "", '{"no": 1}']), encoding="utf-8")
    (folder / "b.txt").write_text("<|endoftext|>".join(texts[160:]), encoding="utf-8")
    (folder / "c.txt").write_text(words(4000, 999) + "<|endoftext|>\n \n", encoding="utf-8")
    return folder


def ids_of(tokens) -> list[int]:
    return tokens.read(0, len(tokens)).tolist() if len(tokens) else []


def documents_in(tokens) -> list[str]:
    parts = np.split(np.array(ids_of(tokens)), np.flatnonzero(np.array(ids_of(tokens)) == END))
    assert len(parts[0]) == 0
    return [bytes(part[1:].tolist()).decode() for part in parts[1:]]


def hashes(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}


SKIP = CorpusConfig(tokenizer="byte", on_damaged="skip")


def test_a_large_source_keeps_every_document_whole_on_one_side(folder_of_files: Path, tmp_path: Path, monkeypatch) -> None:
    """The same documents as where everything is held in memory; and what was read adds up."""
    corpus = prepare_corpus(str(folder_of_files), tmp_path / "large", SKIP)
    monkeypatch.setattr(prepare, "SMALL_BYTES", 10**9)
    small = prepare_corpus(str(folder_of_files), tmp_path / "small", SKIP)
    both = [sorted(documents_in(c.train) + documents_in(c.val)) for c in (corpus, small)]
    assert both[0] == both[1] and len(both[0]) == 321
    assert corpus.info["read"] == small.info["read"]
    for c in (corpus, small):
        assert not set(documents_in(c.train)) & set(documents_in(c.val))
        read, written = c.info["read"], c.info["train"]["documents"] + c.info["val"]["documents"]
        assert read["documents"] == written + read["empty"] + sum(read["skipped"].values())
        assert read["skipped"] == {"key missing": 2} and read["empty"] == 1
        assert c.info["duplicates"] == 20
        for name, side in (("train", c.train), ("val", c.val)):
            counted, found = c.info[name], documents_in(side)
            assert (counted["documents"], counted["bytes"]) == (len(found), sum(len(text.encode()) for text in found))
            assert (counted["characters"], counted["tokens"]) == (sum(map(len, found)), len(side))
        check_manifest(c.folder)
    share = corpus.info["val"]["bytes"] / (corpus.info["val"]["bytes"] + corpus.info["train"]["bytes"])
    assert 0.05 < share < 0.17
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large", "small"]


@pytest.mark.parametrize("split", ["document", "contiguous"])
def test_the_number_of_threads_changes_no_byte(folder_of_files: Path, tmp_path: Path, split) -> None:
    found = []
    for threads in (1, 2, 7):
        config = CorpusConfig(on_damaged="skip", split=split, threads=threads)
        prepare_corpus(str(folder_of_files), tmp_path / str(threads), config)
        found.append(hashes(tmp_path / str(threads)))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.6])
def test_the_end_of_one_long_text_moves_to_validation(tmp_path: Path, fraction: float) -> None:
    """One document of 150 kB in pieces of 4: every character stands on one side, the cut is behind a line break."""
    text = words(9000, 1)
    (tmp_path / "book.txt").write_text(text, encoding="utf-8")
    corpus = prepare_corpus(str(tmp_path / "book.txt"), tmp_path / "corpus", CorpusConfig(tokenizer="byte", val_fraction=fraction))
    assert corpus.info["split"] == "contiguous"
    train, val = documents_in(corpus.train), documents_in(corpus.val) if fraction else []
    assert "".join(train + val) == text
    assert (len(train), len(val)) == (1, int(fraction > 0))
    if fraction:
        assert train[0].endswith("\n")
        assert len(val[0]) / len(text) == pytest.approx(fraction, abs=0.05)
    for name, found in (("train", train), ("val", val)):
        counted = corpus.info[name]
        assert counted["documents"] == len(found)
        assert counted["bytes"] == sum(len(text.encode()) for text in found)
        assert counted["tokens"] == counted["bytes"] + len(found)


def test_ids_do_not_depend_on_where_a_long_text_is_cut(tmp_path: Path, monkeypatch) -> None:
    """GPT-2's ids of a text in pieces of 4,000 bytes and of the whole."""
    text = words(9000, 1)
    (tmp_path / "book.txt").write_text(text, encoding="utf-8")
    whole = None
    for number, size in enumerate((10**9, 4_000, 7_777)):
        monkeypatch.setattr(pieces, "PIECE_BYTES", size)
        corpus = prepare_corpus(str(tmp_path / "book.txt"), tmp_path / str(number), CorpusConfig(val_fraction=0.0))
        whole = whole or ids_of(corpus.train)
        assert ids_of(corpus.train) == whole


def test_standard_input_of_any_size_is_read_once(tmp_path: Path, monkeypatch) -> None:
    text = "<|endoftext|>".join(texts_of(200))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    corpus = prepare_corpus("-", tmp_path / "corpus", BYTES)
    assert sorted(documents_in(corpus.train) + documents_in(corpus.val)) == sorted(texts_of(200))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    with pytest.raises(ConfigError, match="has to read so long a text twice"):
        prepare_corpus("-", tmp_path / "chars", CorpusConfig(tokenizer="char"))


@pytest.mark.parametrize("tokenizer", ["char", "bpe"])
def test_a_trained_tokenizer_fits_a_large_source(folder_of_files: Path, tmp_path: Path, tokenizer: str) -> None:
    config = CorpusConfig(tokenizer=tokenizer, vocab_size=400, on_damaged="skip")
    corpus = prepare_corpus(str(folder_of_files), tmp_path / "corpus", config)
    size = sum(len(corpus.tokenizer.decode(ids_of(side)).replace("<|endoftext|>", "")) for side in (corpus.train, corpus.val))
    assert size == corpus.info["train"]["characters"] + corpus.info["val"]["characters"]


SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path
from gpt_kit.config import CorpusConfig
from gpt_kit.data import damage, encoding, large, pieces, prepare

prepare.SMALL_BYTES, large.JOURNAL_BYTES, encoding.UNIT_BYTES, pieces.PIECE_BYTES = 30_000, 30_000, 5_000, 4_000
source, out, split = sys.argv[1:]

def one_life(units):
    # Prepare in a process of its own, which is killed behind so many written units. Gives the bytes written before the first.
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        def progress(activity, done, total):
            os.write(writing, b"%d\\n" % done)
            time.sleep(0.004)
        prepare.prepare_corpus(source, Path(out), CorpusConfig(tokenizer="byte", on_damaged="skip", split=split), progress)
        os._exit(0)
    os.close(writing)
    with open(reading) as lines:
        told = [int(line) for line, _ in zip(lines, range(units))]
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return told[0]

print(json.dumps([one_life(units) for units in (2, 15, 31, 12)]))
"""


@pytest.mark.parametrize("split", ["document", "contiguous"])
def test_killed_at_any_moment_the_work_is_taken_up_without_a_token_lost_or_doubled(folder_of_files: Path, tmp_path: Path, split) -> None:
    """kill -9 behind 2, 15, 31, 12 more written units; every file of the result is the one of work that was never stopped."""
    config = CorpusConfig(tokenizer="byte", on_damaged="skip", split=split)
    prepare_corpus(str(folder_of_files), tmp_path / "whole", config)
    out = tmp_path / "killed"
    words = [sys.executable, "-c", SCRIPT, str(folder_of_files), str(out), split]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=100, env=environment)
    begun = json.loads(done.stdout)
    assert begun[0] < 30_000 and max(begun) > 100_000, f"it never went on where it stopped: {begun}"
    assert incomplete_folder(out).is_dir() and not out.exists()
    notes: list[str] = []
    prepare_corpus(str(folder_of_files), out, config, note=notes.append)
    assert "going on where an earlier preparation stopped" in notes[0]
    assert hashes(out) == hashes(tmp_path / "whole")
    assert not incomplete_folder(out).exists()


def stop_after(lines: int):
    def progress(activity: str, *_: int) -> None:
        nonlocal lines
        lines -= activity == "encoding"
        if lines < 0:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("step", ["copy_tail", "cut_off_tail"])
def test_a_stop_while_the_end_is_moved_is_made_up_for(folder_of_files: Path, tmp_path: Path, monkeypatch, step: str) -> None:
    """Before and after each step of moving the end of a contiguous source, and then a second time."""
    config = CorpusConfig(tokenizer="byte", on_damaged="skip", split="contiguous")
    prepare_corpus(str(folder_of_files), tmp_path / "whole", config)
    real = getattr(large.tail, step)
    for when in ("before", "after", "again"):

        def stopped(*arguments, when=when):
            if when != "before":
                real(*arguments)
            raise KeyboardInterrupt

        monkeypatch.setattr(large.tail, step, stopped)
        with pytest.raises(KeyboardInterrupt):
            prepare_corpus(str(folder_of_files), tmp_path / "stopped", config)
    monkeypatch.setattr(large.tail, step, real)
    prepare_corpus(str(folder_of_files), tmp_path / "stopped", config)
    assert hashes(tmp_path / "stopped") == hashes(tmp_path / "whole")


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".jsonl.gz"])
def test_the_progress_ends_at_a_hundred_per_cent(tmp_path: Path, suffix: str) -> None:
    """Lines of records are half as long again as their text, and the bar compares like with like; of one packed file nothing is known."""
    texts = [f'"{i}"\n' * 60 for i in range(500)]
    written = "<|endoftext|>".join(texts) if suffix == ".txt" else "\n".join(json.dumps({"text": text}) for text in texts)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(written.encode()) if suffix.endswith(".gz") else written.encode())
    told: list[tuple[int, int]] = []
    prepare_corpus(str(path), tmp_path / "corpus", BYTES, lambda what, *sizes: told.append(sizes) if what == "encoding" else None)
    size = sum(map(len, texts))
    assert told[-1][0] == size
    if suffix.endswith(".gz"):
        assert {total for _, total in told} == {0}
    else:
        assert told[-1][1] == size
        assert all(abs(total - size) < size / 10 for _, total in told if total), "it was a guess from the start, but a good one"


def test_no_journal_is_written_before_the_tokenizer_lies_there(folder_of_files: Path, tmp_path: Path, monkeypatch) -> None:
    """Whoever takes the work up needs it; here it is slow to come."""
    save, write, seen = ByteTokenizer.save, large.write_journal, []

    def slow_save(self, folder):
        time.sleep(0.3)
        save(self, folder)

    def watched_write(place, entry):
        seen.append((place / "tokenizer.json").is_file())
        write(place, entry)

    monkeypatch.setattr(ByteTokenizer, "save", slow_save)
    monkeypatch.setattr(large, "write_journal", watched_write)
    prepare_corpus(str(folder_of_files), tmp_path / "corpus", SKIP)
    assert len(seen) > 3 and all(seen)


def test_work_begun_otherwise_is_not_mixed(folder_of_files: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(str(folder_of_files), out, SKIP, stop_after(20))
    other = CorpusConfig(tokenizer="byte", on_damaged="skip", val_fraction=0.2)
    with pytest.raises(DataError, match=r"begun otherwise \(val_fraction is 0.2, was 0.1\). Finish it .* or delete that folder") as caught:
        prepare_corpus(str(folder_of_files), out, other)
    assert str(incomplete_folder(out)) in str(caught.value)
    with lock_folder(incomplete_folder(out)), pytest.raises(FolderInUseError):
        prepare_corpus(str(folder_of_files), out, SKIP)
    notes: list[str] = []
    prepare_corpus(str(folder_of_files), out, SKIP, note=notes.append)
    assert any("going on where an earlier preparation stopped" in line for line in notes)


def test_a_source_that_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    source.write_text("<|endoftext|>".join(texts_of(100)))
    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(str(source), tmp_path / "corpus", BYTES, stop_after(12))
    time.sleep(0.01)
    source.write_text("<|endoftext|>".join(texts_of(101)))
    with pytest.raises(DataError, match="content of the source"):
        prepare_corpus(str(source), tmp_path / "corpus", BYTES)


def test_work_that_met_damage_can_go_on_with_another_policy(tmp_path: Path) -> None:
    """Nothing was damaged before, so the result is that of the policy from the start."""
    lines = [json.dumps({"text": text}) for text in texts_of(200)]
    lines[150] = "{broken"
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"a.jsonl:151: not valid JSON"):
        prepare_corpus(str(tmp_path / "a.jsonl"), tmp_path / "corpus", BYTES)
    prepare_corpus(str(tmp_path / "a.jsonl"), tmp_path / "corpus", SKIP)
    prepare_corpus(str(tmp_path / "a.jsonl"), tmp_path / "whole", SKIP)
    assert hashes(tmp_path / "corpus") == hashes(tmp_path / "whole")


def test_what_appeared_meanwhile_in_the_place_is_not_replaced(folder_of_files: Path, tmp_path: Path) -> None:
    """And the work is kept: with the place free again, the same call ends it."""
    out = tmp_path / "corpus"

    def progress(*_: object) -> None:
        out.mkdir(exist_ok=True)
        (out / "thesis.doc").touch()

    with pytest.raises(DataError, match="is not empty and holds no corpus"):
        prepare_corpus(str(folder_of_files), out, SKIP, progress)
    assert [entry.name for entry in out.iterdir()] == ["thesis.doc"]
    (out / "thesis.doc").unlink()
    prepare_corpus(str(folder_of_files), out, SKIP)
    check_manifest(out)


@pytest.mark.parametrize("policy", ["skip", "replace"])
@pytest.mark.parametrize("filling", ["word ", "="])
def test_a_stop_inside_a_damaged_line_changes_nothing(tmp_path: Path, monkeypatch, policy, filling: str) -> None:
    """A line, or a run, many pieces long: what is known of it goes on with the place in the file."""
    monkeypatch.setattr(large, "JOURNAL_BYTES", 3_000)
    monkeypatch.setattr(damage, "LONGEST_LINE", 64_000)
    monkeypatch.setattr(damage, "LONGEST_RUN", 10_000)
    source = tmp_path / "a.txt"
    source.write_text(words(4000, 1) + "\n" + filling * (150_000 // len(filling)) + "\n" + words(4000, 2))
    config = CorpusConfig(tokenizer="byte", on_damaged=policy)
    whole = prepare_corpus(str(source), tmp_path / "whole", config)
    assert sum(whole.info["read"]["repaired" if policy == "replace" else "skipped_lines"].values()) in (1, 2)
    places = set()
    for units in range(6, 22, 2):
        out = tmp_path / f"stopped{units}"
        with contextlib.suppress(KeyboardInterrupt):  # of a line that is left out, less text may be left than so many units
            prepare_corpus(str(source), out, config, stop_after(units))
        journal = incomplete_folder(out) / ".progress" / "journal.json"
        if journal.is_file():
            open_line = json.loads(journal.read_text())["intake"]["position"]["open_line"]
            places.add(tuple(open_line))
        assert hashes(prepare_corpus(str(source), out, config).folder) == hashes(tmp_path / "whole")
    assert len(places) > 1


def test_a_pipe_is_read_as_a_file_is(tmp_path: Path) -> None:
    """As a shell's <(zcat …) gives it: it cannot seek."""
    os.mkfifo(tmp_path / "pipe")
    text = "<|endoftext|>".join(texts_of(200))
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=(text,))
    writer.start()
    corpus = prepare_corpus(str(tmp_path / "pipe"), tmp_path / "corpus", BYTES)
    writer.join()
    assert sorted(documents_in(corpus.train) + documents_in(corpus.val)) == sorted(texts_of(200))
