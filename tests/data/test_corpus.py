"""prepare -> open: every token kept, the split honest and stable, interruptions without a trace, mix-ups refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from gpt_kit.config import CorpusConfig
from gpt_kit.data import duplicates, open_corpus, prepare_corpus
from gpt_kit.errors import DataError, GPTKitError, TokenizerError
from gpt_kit.files import check_manifest
from gpt_kit.tokenizers import load_tokenizer

BYTES = CorpusConfig(tokenizer="byte")
END = 256  # <|endoftext|> of the byte tokenizer


def write_records(path: Path, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return str(path)


def texts_of(count: int) -> list[str]:
    """Different documents of different lengths, some with letters of several bytes."""
    return [f"document {i}: " + "wörter 漢 " * (1 + i * 7 % 11) for i in range(count)]


def documents_in(tokens) -> list[str]:
    """The documents of one side, by their opening end token."""
    ids = tokens.read(0, len(tokens)).tolist() if len(tokens) else []
    assert not ids or ids[0] == END
    rows: list[list[int]] = []
    for token in ids:
        if token == END:
            rows.append([])
        else:
            rows[-1].append(token)
    return [bytes(row).decode() for row in rows]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_records(tmp_path_factory.mktemp("many") / "texts.jsonl", texts_of(400))


def test_every_document_is_kept_whole_on_exactly_one_side(many: str, tmp_path: Path) -> None:
    corpus = prepare_corpus(many, tmp_path / "corpus", BYTES)
    train, val = documents_in(corpus.train), documents_in(corpus.val)
    assert sorted(train + val) == sorted(texts_of(400))
    assert corpus.info["split"] == "document"
    for name, documents in (("train", train), ("val", val)):
        counted = corpus.info[name]
        assert counted["documents"] == len(documents)
        assert counted["bytes"] == sum(len(text.encode()) for text in documents)
        assert counted["characters"] == sum(map(len, documents))
        assert counted["tokens"] == counted["bytes"] + counted["documents"]
    check_manifest(tmp_path / "corpus")


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.5])
def test_about_the_wanted_share_of_bytes_is_set_aside(many: str, tmp_path: Path, fraction: float) -> None:
    corpus = prepare_corpus(many, tmp_path / "corpus", dataclasses.replace(BYTES, val_fraction=fraction))
    share = corpus.info["val"]["bytes"] / (corpus.info["val"]["bytes"] + corpus.info["train"]["bytes"])
    assert share == pytest.approx(fraction, abs=0.01)


def test_nothing_is_set_aside_when_nothing_is_wanted(many: str, tmp_path: Path) -> None:
    corpus = prepare_corpus(many, tmp_path / "corpus", dataclasses.replace(BYTES, val_fraction=0.0))
    assert len(corpus.val) == 0
    assert len(documents_in(corpus.train)) == 400


def test_the_choice_is_seeded_stable_and_independent_of_order(many: str, tmp_path: Path) -> None:
    """The same texts tomorrow, in reverse order: the same validation set. Another seed: another."""
    reverse = write_records(tmp_path / "reverse.jsonl", texts_of(400)[::-1])
    val = {}
    for name, source, seed in (("first", many, 1), ("again", many, 1), ("reverse", reverse, 1), ("other", many, 2)):
        corpus = prepare_corpus(source, tmp_path / name, dataclasses.replace(BYTES, split_seed=seed))
        val[name] = set(documents_in(corpus.val))
    assert val["first"] == val["again"] == val["reverse"] != val["other"]
    assert len(val["first"] & val["other"]) < len(val["first"]) / 2


def test_equal_documents_never_stand_on_both_sides(tmp_path: Path) -> None:
    """60 texts five times each, mixed: train and validation share none, and the repeats are counted."""
    source = write_records(tmp_path / "texts.jsonl", texts_of(60) * 5)
    corpus = prepare_corpus(source, tmp_path / "corpus", dataclasses.replace(BYTES, val_fraction=0.3))
    train, val = set(documents_in(corpus.train)), set(documents_in(corpus.val))
    assert train and val and not train & val
    assert corpus.info["duplicates"] == 240


def test_copies_of_one_document_cannot_be_split(tmp_path: Path) -> None:
    source = write_records(tmp_path / "texts.jsonl", ["the same text"] * 30)
    with pytest.raises(DataError, match=r"copies of one.*--split contiguous"):
        prepare_corpus(source, tmp_path / "corpus", BYTES)


def test_few_documents_are_split_by_place(tmp_path: Path) -> None:
    """Below 20 documents the end of the text is set aside, to the character; 'document' can still be asked for."""
    source = write_records(tmp_path / "texts.jsonl", texts_of(4))
    corpus = prepare_corpus(source, tmp_path / "contiguous", dataclasses.replace(BYTES, val_fraction=0.25))
    assert corpus.info["split"] == "contiguous"
    whole = "".join(texts_of(4))
    border = int(len(whole) * 0.75)
    assert "".join(documents_in(corpus.train)) == whole[:border]
    assert "".join(documents_in(corpus.val)) == whole[border:]
    asked = prepare_corpus(source, tmp_path / "document", dataclasses.replace(BYTES, val_fraction=0.25, split="document"))
    assert sorted(documents_in(asked.train) + documents_in(asked.val)) == sorted(texts_of(4))
    assert asked.info["val"]["documents"] >= 1


def test_tinyshakespeare_is_cut_where_everybody_cuts_it(data_folder: Path, tmp_path: Path) -> None:
    """Characters, the last tenth set aside: 1,003,854 + 111,540 tokens and 65 characters, the figures of nanoGPT's recipe."""
    corpus = prepare_corpus(str(data_folder / "tinyshakespeare.txt"), tmp_path / "corpus", CorpusConfig(tokenizer="char"))
    assert (len(corpus.train), len(corpus.val), corpus.tokenizer.vocab_size) == (1_003_854, 111_540, 65)
    text = (data_folder / "tinyshakespeare.txt").read_text(encoding="utf-8")
    assert corpus.tokenizer.decode(corpus.val.read(0, 1000)) == text[1_003_854 : 1_003_854 + 1000]
    assert corpus.tokenizer.decode(corpus.train.read(1_003_854 - 500, 500)) == text[1_003_854 - 500 : 1_003_854]


def test_a_trained_tokenizer_has_not_seen_the_validation_text(tmp_path: Path) -> None:
    """A word that occurs only in the validation part, hundreds of times, is not one token of the bpe vocabulary."""
    (tmp_path / "text.txt").write_text("abc abc abc " * 900 + "xyzzyq " * 160, encoding="utf-8")
    config = CorpusConfig(tokenizer="bpe", vocab_size=300)
    corpus = prepare_corpus(str(tmp_path / "text.txt"), tmp_path / "corpus", config)
    assert corpus.tokenizer.decode(corpus.val.read(1, len(corpus.val) - 1)).count("xyzzyq") > 100
    assert len(corpus.tokenizer.encode(" abc")) == 1
    assert len(corpus.tokenizer.encode("xyzzyq")) == 6


def test_an_interrupted_preparation_leaves_nothing(many: str, tmp_path: Path) -> None:
    def interrupt(activity: str, *_: int) -> None:
        if activity == "encoding":
            assert any(tmp_path.iterdir()), "nothing was begun, so nothing is shown"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(many, tmp_path / "corpus", BYTES, interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_character_that_cannot_be_encoded_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "abc.txt").write_text("abc" * 100, encoding="utf-8")
    prepare_corpus(str(tmp_path / "abc.txt"), tmp_path / "abc", CorpusConfig(tokenizer="char"))
    (tmp_path / "abd.txt").write_text("abd" * 100, encoding="utf-8")
    with pytest.raises(TokenizerError, match="'d'"):
        prepare_corpus(str(tmp_path / "abd.txt"), tmp_path / "abd", CorpusConfig(tokenizer=str(tmp_path / "abc")))
    assert not (tmp_path / "abd").exists()
    assert not list(tmp_path.glob(".incomplete-*"))


def test_an_opened_corpus_is_the_prepared_one(many: str, tmp_path: Path) -> None:
    prepared = prepare_corpus(many, tmp_path / "corpus", BYTES)
    opened = open_corpus(tmp_path / "corpus")
    assert opened.info == prepared.info
    assert opened.tokenizer.fingerprint == prepared.tokenizer.fingerprint
    for side in ("train", "val"):
        assert documents_in(getattr(opened, side)) == documents_in(getattr(prepared, side))


def test_preparing_twice_gives_the_same_bytes(many: str, tmp_path: Path) -> None:
    hashes = []
    for name in ("one", "two"):
        prepare_corpus(many, tmp_path / name, BYTES)
        hashes.append({f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in (tmp_path / name).iterdir()})
    assert hashes[0] == hashes[1]
    assert len(hashes[0]) > 4


def test_another_tokenizer_in_the_folder_is_refused(many: str, tmp_path: Path) -> None:
    prepare_corpus(many, tmp_path / "corpus", BYTES)
    load_tokenizer("byte", special_tokens=["<|user|>"]).save(tmp_path / "corpus")
    with pytest.raises(TokenizerError, match=r"made with the tokenizer .*The same ids would mean other text"):
        open_corpus(tmp_path / "corpus")


def test_a_shard_of_another_corpus_is_refused(many: str, tmp_path: Path) -> None:
    prepare_corpus(many, tmp_path / "bytes", BYTES)
    prepare_corpus(many, tmp_path / "chars", CorpusConfig(tokenizer="char"))
    shutil.copy(tmp_path / "chars" / "train-00000.tokens", tmp_path / "bytes" / "train-00000.tokens")
    with pytest.raises(DataError, match=r"train-00000.tokens: made with another tokenizer"):
        open_corpus(tmp_path / "bytes")


def test_a_corpus_of_a_later_format_is_refused(many: str, tmp_path: Path) -> None:
    prepare_corpus(many, tmp_path / "corpus", BYTES)
    info = json.loads((tmp_path / "corpus" / "corpus.json").read_text())
    (tmp_path / "corpus" / "corpus.json").write_text(json.dumps({**info, "format": 99}))
    with pytest.raises(DataError, match="corpus format 99 is not known; expected 1"):
        open_corpus(tmp_path / "corpus")


def test_a_folder_without_a_corpus_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gpt-kit prepare SOURCE --out"):
        open_corpus(tmp_path)


@pytest.mark.parametrize("text", ["", "   \n\n "])
def test_an_empty_text_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "empty.txt").write_text(text)
    with pytest.raises(GPTKitError, match="holds no text"):
        prepare_corpus(str(tmp_path / "empty.txt"), tmp_path / "corpus", BYTES)
    assert not (tmp_path / "corpus").exists()


def test_text_that_spells_the_end_token_does_not_become_one(tmp_path: Path) -> None:
    """Inside a JSON record it is content: encoded letter by letter, so the only end token is the opening one."""
    source = write_records(tmp_path / "texts.jsonl", ["a <|endoftext|> b"])
    corpus = prepare_corpus(source, tmp_path / "corpus", dataclasses.replace(BYTES, val_fraction=0.0))
    ids = corpus.train.read(0, len(corpus.train)).tolist()
    assert ids == [END, *b"a <|endoftext|> b"]


def test_a_flipped_bit_in_a_shard_is_found_by_name_unless_nobody_asks(many: str, tmp_path: Path) -> None:
    """Every shard, at its first, its middle and its last id."""
    prepare_corpus(many, tmp_path / "corpus", BYTES)
    for name in ("train-00000.tokens", "val-00000.tokens"):
        path = tmp_path / "corpus" / name
        whole = path.read_bytes()
        for at in (64, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
            with pytest.raises(DataError, match=rf"{name}: this shard does not match MANIFEST.json \(SHA-256 .{{8}}…, expected .{{8}}…\)"):
                open_corpus(tmp_path / "corpus")
            open_corpus(tmp_path / "corpus", verify=False)
        path.write_bytes(whole)
    open_corpus(tmp_path / "corpus")


def test_a_shard_of_the_same_tokenizer_from_another_corpus_is_refused(many: str, tmp_path: Path) -> None:
    prepare_corpus(many, tmp_path / "one", BYTES)
    prepare_corpus(write_records(tmp_path / "b.jsonl", texts_of(300)), tmp_path / "two", BYTES)
    shutil.copy(tmp_path / "two" / "train-00000.tokens", tmp_path / "one" / "train-00000.tokens")
    with pytest.raises(DataError, match=r"train-00000.tokens: this shard does not match"):
        open_corpus(tmp_path / "one")


def test_a_corpus_without_its_manifest_is_refused(many: str, tmp_path: Path) -> None:
    prepare_corpus(many, tmp_path / "corpus", BYTES)
    (tmp_path / "corpus" / "MANIFEST.json").unlink()
    with pytest.raises(DataError, match=r"MANIFEST.json is missing"):
        open_corpus(tmp_path / "corpus")


@pytest.mark.parametrize("at_once", [50, 7, 10**6])
def test_duplicates_are_counted_by_ranges_as_by_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """Against Python's own sets, with ranges of some 50 digests, of 7, and all in one; a value may fill its range many times over."""
    monkeypatch.setattr(duplicates, "AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    pool = rng.integers(0, 2**64, 700, dtype=np.uint64)
    pool[:2] = 0, 2**64 - 1
    for trial in range(20):
        train, val = rng.choice(pool, rng.integers(0, 900)), rng.choice(pool, rng.integers(0, 300))
        if trial % 2:
            train, val = (np.append(side, np.repeat(pool[:3], 90)) for side in (train, val))
        known = set(train.tolist())
        expected = len(train) + len(val) - len(known | set(val.tolist())), sum(number in known for number in val.tolist())
        assert duplicates.count_duplicates(train, val, tmp_path) == expected
    assert not list(tmp_path.iterdir())


def test_counting_duplicates_takes_linear_time_and_constant_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty ranges, and every digest is read twice; one that stands there 3,000 times is not held at once."""

    class Watched:
        def __init__(self, digests: np.ndarray) -> None:
            self.digests, self.num_read = digests, 0

        def __len__(self) -> int:
            return len(self.digests)

        def __getitem__(self, place: slice) -> np.ndarray:
            self.num_read += len(self.digests[place])
            return self.digests[place]

    monkeypatch.setattr(duplicates, "AT_ONCE", 100)
    distinct, held = duplicates._distinct, []
    monkeypatch.setattr(duplicates, "_distinct", lambda *parts: held.append(sum(map(len, parts))) or distinct(*parts))
    rng = np.random.default_rng(1)
    train, val = (Watched(np.append(rng.integers(0, 2**64, 2000, dtype=np.uint64), np.full(1000, 7, np.uint64))) for _ in "ab")
    assert duplicates.count_duplicates(train, val, tmp_path) == (1999, 1000)
    assert (train.num_read, val.num_read) == (6000, 6000)
    assert max(held) < 300


def test_what_is_no_corpus_is_never_replaced(many: str, tmp_path: Path) -> None:
    """Somebody's folder, given as the place to write to; a corpus in its place may be replaced."""
    (tmp_path / "thesis.doc").write_text("years")
    with pytest.raises(DataError, match="is not empty and holds no corpus"):
        prepare_corpus(many, tmp_path, CorpusConfig(tokenizer="byte"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.doc"]
    for seed in (1, 2):
        assert (
            prepare_corpus(many, tmp_path / "corpus", CorpusConfig(tokenizer="byte", split_seed=seed)).info["settings"]["split_seed"]
            == seed
        )


def test_every_file_of_a_corpus_is_verified(many: str, tmp_path: Path) -> None:
    """Not the shards alone: a bit of corpus.json or of the tokenizer's files says something else, too."""
    folder = prepare_corpus(many, tmp_path / "corpus", CorpusConfig(tokenizer="byte")).folder
    names = json.loads((folder / "MANIFEST.json").read_text())
    assert {"corpus.json", "tokenizer.json", "tokenizer_config.json"} <= set(names)
    for name in names:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole + b" ")
        with pytest.raises(DataError, match=rf"{name}: "):
            open_corpus(folder)
        (folder / name).unlink()
        with pytest.raises(GPTKitError):
            open_corpus(folder)
        (folder / name).write_bytes(whole)
    open_corpus(folder)


def test_shards_that_corpus_json_does_not_count_are_refused(many: str, tmp_path: Path) -> None:
    """Named twice, or val named as train: each shard is sound, and their sum is not what was written. Seen without a checksum."""
    folder = prepare_corpus(many, tmp_path / "corpus", CorpusConfig(tokenizer="byte")).folder
    info = json.loads((folder / "corpus.json").read_text())
    for shards in (info["train"]["shards"] * 2, info["val"]["shards"], []):
        (folder / "corpus.json").write_text(json.dumps({**info, "train": {**info["train"], "shards": shards}}))
        with pytest.raises(DataError, match=r"corpus: train has [\d,]+ tokens, but corpus.json tells of \d+"):
            open_corpus(folder, verify=False)
