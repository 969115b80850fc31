"""Work that was stopped and then changed by somebody: every piece that is short, missing or another one is refused by name."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt_kit.config import CorpusConfig
from gpt_kit.data import encoding, large, prepare, prepare_corpus, shards
from gpt_kit.errors import DataError
from gpt_kit.files import incomplete_folder
from gpt_kit.tokenizers import load_tokenizer

TEXTS = [f"document {i}: " + "wörter 漢 " * (20 + i * 7 % 31) for i in range(400)]


@pytest.fixture(autouse=True)
def _small_is_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, size in (
        (prepare, "SMALL_BYTES", 30_000),
        (large, "JOURNAL_BYTES", 20_000),
        (encoding, "UNIT_BYTES", 5_000),
        (shards, "TOKENS_PER_SHARD", 30_000),
    ):
        monkeypatch.setattr(module, name, size)


def stopped(source: Path, out: Path, split: str, phase: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Leave work that was stopped while it read, or after all was written; gives how to take it up."""
    config = CorpusConfig(tokenizer="byte", split=split)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def progress(_: str, done: int, __: int) -> None:
        if phase == "reading" and done > 100_000:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        step = {"written": "_settle_tail", "copied": "finish"}.get(phase)
        if step:
            patch.setattr(large, step, interrupt)
        prepare_corpus(str(source), out, config, progress)
    journal = json.loads((incomplete_folder(out) / ".progress" / "journal.json").read_text())
    assert journal["phase"] == phase
    return lambda: prepare_corpus(str(source), out, config).folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("<|endoftext|>".join(TEXTS))
    return tmp_path / "a.txt"


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: -1500 if file.suffix == ".tokens" else 40])


def swap_header(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[30] ^= 1  # of the tokenizer's fingerprint
    file.write_bytes(data)


def another_tokenizer(file: Path) -> None:
    load_tokenizer("byte", special_tokens=["<|x|>"]).save(file.parent)


def count_more(file: Path) -> None:
    file.write_text(file.read_text().replace('"tokens": ', '"tokens": 1'))


CHANGES: list[tuple[str, Callable[[Path], None], str]] = [
    ("train-00000.tokens", Path.unlink, "is missing"),
    ("train-00000.tokens", cut, r"holds [\d,]+ bytes, but the journal counts [\d,]+"),
    ("train-00000.tokens", swap_header, "is no shard of the tokenizer beside it"),
    ("train-00002.tokens", Path.unlink, "is missing"),
    (".progress/train.digests", Path.unlink, "is missing"),
    (".progress/train.digests", cut, r"holds 40 bytes, but the journal counts [\d,]+"),
    (".progress/val.digests", Path.unlink, "is missing"),
    (".progress/marks", cut, "holds 40 bytes, but"),
    (".progress/journal.json", Path.unlink, "there is no such file"),
    (".progress/journal.json", cut, "not valid JSON"),
    (".progress/journal.json", lambda file: file.write_text("[1]"), "is not what was written"),
    (".progress/journal.json", count_more, "is not what was written"),
    ("tokenizer.json", Path.unlink, "train-00000.tokens: is no shard of the tokenizer beside it"),
    ("tokenizer.json", cut, "tokenizer.json"),
    ("tokenizer.json", another_tokenizer, "train-00000.tokens: is no shard of the tokenizer beside it"),
]  # fmt: skip


@pytest.mark.parametrize("phase", ["reading", "written", "copied"])
@pytest.mark.parametrize(("name", "change", "said"), CHANGES)
def test_work_that_was_changed_is_refused_by_name_and_left_as_it_is(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str, name: str, change: Callable[[Path], None], said: str
) -> None:
    out = tmp_path / "corpus"
    place = incomplete_folder(out)
    split = "contiguous" if phase == "copied" else "document"
    go_on = stopped(source, out, split, phase, monkeypatch)
    shutil.copytree(place, tmp_path / "kept")
    change(place / name)
    changed = {path: path.read_bytes() for path in place.rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(DataError, match=rf"{said}.*\. So the work begun here was changed .* To begin anew, delete {place}$") as caught:
        go_on()
    assert str(place / name) in str(caught.value) or "train-00000" in said
    assert changed == {path: path.read_bytes() for path in place.rglob("*") if path.is_file() and path.name != ".lock"}
    shutil.rmtree(place)
    shutil.move(tmp_path / "kept", place)
    go_on()


@pytest.mark.parametrize("split", ["document", "contiguous"])
@pytest.mark.parametrize("phase", ["reading", "written", "copied"])
def test_a_folder_that_is_deleted_as_told_begins_anew(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str, phase: str
) -> None:
    go_on = stopped(source, tmp_path / "corpus", split, phase if split == "contiguous" else phase.replace("copied", "written"), monkeypatch)
    shutil.rmtree(incomplete_folder(tmp_path / "corpus"))
    go_on()


def test_a_header_that_was_never_counted_is_refused_where_it_must_be(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a shard that is full or finished; the one that is being written has no count yet."""

    def uncounted(file: Path) -> None:
        data = file.read_bytes()
        file.write_bytes(data[:16] + bytes(8) + data[24:])

    go_on = stopped(source, tmp_path / "full", "document", "reading", monkeypatch)
    full, last = (incomplete_folder(tmp_path / "full") / f"train-0000{number}.tokens" for number in (0, 3))
    uncounted(last)
    uncounted(full)
    with pytest.raises(DataError, match=r"train-00000.tokens: its header counts 0 ids, not 30,000 as the journal does"):
        go_on()
    data = full.read_bytes()
    full.write_bytes(data[:16] + (30_000).to_bytes(8, "little") + data[24:])
    go_on()
    go_on = stopped(source, tmp_path / "copied", "contiguous", "copied", monkeypatch)
    uncounted(incomplete_folder(tmp_path / "copied") / "val-00000.tokens")
    with pytest.raises(DataError, match=r"val-00000.tokens: its header counts 0 ids"):
        go_on()


def feed(monkeypatch: pytest.MonkeyPatch, texts: list[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("<|endoftext|>".join(texts).encode())))


@pytest.mark.parametrize("count", [400, 3])
def test_a_stream_never_takes_the_place_of_work_that_was_begun(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Whether it is large or small, and before a byte of it is read: it could not be read again."""
    go_on = stopped(source, tmp_path / "corpus", "document", "reading", monkeypatch)
    place = incomplete_folder(tmp_path / "corpus")
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    feed(monkeypatch, TEXTS[:count])
    with pytest.raises(DataError, match=rf"{place}: holds a preparation that was begun, and stdin cannot go on with it. Finish it with"):
        prepare_corpus("-", tmp_path / "corpus", CorpusConfig(tokenizer="byte"))
    assert sys.stdin.buffer.tell() == 0
    assert before == {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    go_on()


def test_work_that_was_begun_while_a_head_was_read_is_not_emptied(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody begins, journals and is killed between our look and our lock."""
    other = tmp_path / "b.txt"
    other.write_text("<|endoftext|>".join(TEXTS[::-1]))
    out, head = tmp_path / "corpus", prepare._head

    def slow_head(*arguments):
        monkeypatch.setattr(prepare, "_head", head)
        stopped(source, out, "document", "reading", monkeypatch)
        return head(*arguments)

    monkeypatch.setattr(prepare, "_head", slow_head)
    with pytest.raises(DataError, match=r"holds a preparation that was begun, and .*b.txt cannot go on with it"):
        prepare_corpus(str(other), out, CorpusConfig(tokenizer="byte"))
    assert (incomplete_folder(out) / "train-00001.tokens").is_file()


def test_a_stream_leaves_nothing_to_take_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was killed begins anew, with the same stream or with a small text, and nothing of it stays."""

    def interrupt(_: str, done: int, __: int) -> None:
        if done > 100_000:
            raise KeyboardInterrupt

    for texts in (TEXTS, TEXTS[:30]):
        feed(monkeypatch, TEXTS)
        with pytest.raises(KeyboardInterrupt):
            prepare_corpus("-", tmp_path / "corpus", CorpusConfig(tokenizer="byte"), interrupt)
        assert incomplete_folder(tmp_path / "corpus").exists()
        feed(monkeypatch, texts)
        corpus = prepare_corpus("-", tmp_path / "corpus", CorpusConfig(tokenizer="byte"))
        assert corpus.info["read"]["documents"] == len(texts)
        assert not incomplete_folder(tmp_path / "corpus").exists()
        shutil.rmtree(tmp_path / "corpus")
