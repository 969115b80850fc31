"""train.bin / val.bin: the ids that nanoGPT writes come in and go out to the byte, and never with the wrong tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpt_kit.__main__ import main
from gpt_kit.config import CorpusConfig
from gpt_kit.data import bins, open_corpus, prepare_corpus
from gpt_kit.errors import DataError
from gpt_kit.tokenizers import load_tokenizer

GPT2 = load_tokenizer("gpt2")
DOCUMENTS = [f"Document {i}: the cat sat on mat {i * 7}, naïve 漢." for i in range(50)]


def nanogpt_ids(documents: list[str]) -> np.ndarray:
    """The end token behind every document, as nanoGPT's prepare.py puts it."""
    return np.array([number for text in documents for number in [*GPT2.encode(text), 50256]], dtype=np.uint16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    nanogpt_ids(DOCUMENTS[:40]).tofile(tmp_path / "data" / "train.bin")
    nanogpt_ids(DOCUMENTS[40:]).tofile(tmp_path / "data" / "val.bin")
    return tmp_path / "data"


def ids_of(tokens) -> list[int]:
    return tokens.read(0, len(tokens)).tolist()


def test_what_came_in_goes_out_to_the_byte(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bins, "_AT_ONCE", 64)
    corpus = prepare_corpus(str(folder), tmp_path / "corpus", CorpusConfig(tokenizer="gpt2"))
    assert corpus.info["split"] == "given"
    for side, documents in (("train", DOCUMENTS[:40]), ("val", DOCUMENTS[40:])):
        assert ids_of(getattr(corpus, side)) == nanogpt_ids(documents).tolist()
        counted = corpus.info[side]
        assert (counted["documents"], counted["tokens"]) == (len(documents), len(nanogpt_ids(documents)))
        assert counted["bytes"] == sum(len(text.encode()) for text in documents)
    main(["prepare", str(tmp_path / "corpus"), "--out", str(tmp_path / "out"), "--format", "bin"])
    for name in ("train.bin", "val.bin"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()
    assert load_tokenizer(tmp_path / "out").fingerprint == GPT2.fingerprint


def test_one_file_is_split_at_its_end(folder: Path, tmp_path: Path) -> None:
    corpus = prepare_corpus(str(folder / "train.bin"), tmp_path / "corpus", CorpusConfig(val_fraction=0.25))
    assert corpus.info["split"] == "contiguous"
    whole = nanogpt_ids(DOCUMENTS[:40]).tolist()
    assert ids_of(corpus.train) + ids_of(corpus.val) == whole
    assert len(corpus.val) == pytest.approx(len(whole) / 4, abs=1)


def test_text_becomes_bin_files(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The ids are those of the corpus that the same text becomes, and nothing else is left behind."""
    (tmp_path / "a.txt").write_text("<|endoftext|>".join(DOCUMENTS))
    main(["prepare", str(tmp_path / "a.txt"), "--out", str(tmp_path / "out"), "--format", "bin"])
    corpus = prepare_corpus(str(tmp_path / "a.txt"), tmp_path / "corpus", CorpusConfig())
    for side in ("train", "val"):
        assert np.fromfile(tmp_path / "out" / f"{side}.bin", dtype="<u2").tolist() == ids_of(getattr(corpus, side))
    assert "ids of gpt2" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "corpus", "out"]


@pytest.mark.parametrize(
    ("tokenizer", "said"),
    [
        ("byte", r"train.bin: holds the id 50256, but tokenizer 'byte' has 257 entries"),
        ("bpe", "is learned from text"),
        ("char", "is learned"),
    ],
)
def test_the_wrong_tokenizer_is_refused(folder: Path, tmp_path: Path, tokenizer: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        prepare_corpus(str(folder), tmp_path / "corpus", CorpusConfig(tokenizer=tokenizer))
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize("content", [b"", b"\1\0\2"])
def test_a_file_that_is_not_whole_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(DataError, match=r"a.bin: \d bytes, but a .bin file holds ids of 2 bytes"):
        prepare_corpus(str(tmp_path / "a.bin"), tmp_path / "corpus", CorpusConfig())


def test_a_large_vocabulary_does_not_fit(tmp_path: Path) -> None:
    """70,000 entries: some ids would need 17 bits."""
    large = load_tokenizer("byte", special_tokens=[f"<|{i}|>" for i in range(70_000 - 257)])
    (tmp_path / "a.txt").write_text("some text")
    corpus = prepare_corpus(str(tmp_path / "a.txt"), tmp_path / "corpus", CorpusConfig(tokenizer="byte"))
    with pytest.raises(DataError, match=r"70,000 entries, but a .bin file holds ids of 16 bits, so at most 65,536"):
        bins.export_bins(tmp_path / "out", {"train": corpus.train, "val": corpus.val}, large)
    assert not (tmp_path / "out").exists()


def test_a_corpus_is_no_source_of_another(folder: Path, tmp_path: Path) -> None:
    prepare_corpus(str(folder), tmp_path / "corpus", CorpusConfig())
    assert main(["prepare", str(tmp_path / "corpus"), "--out", str(tmp_path / "again")]) == 2
    assert open_corpus(tmp_path / "corpus").info["split"] == "given"


def test_where_nothing_is_set_aside_the_way_back_is_open(tmp_path: Path) -> None:
    """No empty val.bin, which would be refused as damaged."""
    (tmp_path / "a.txt").write_text("<|endoftext|>".join(DOCUMENTS))
    main(["prepare", str(tmp_path / "a.txt"), "--out", str(tmp_path / "out"), "--format", "bin", "--val-fraction", "0"])
    assert (tmp_path / "out" / "train.bin").is_file() and not (tmp_path / "out" / "val.bin").exists()
    corpus = prepare_corpus(str(tmp_path / "out"), tmp_path / "corpus", CorpusConfig(val_fraction=0.0))
    assert len(corpus.train) * 2 == (tmp_path / "out" / "train.bin").stat().st_size


def test_shards_of_another_source_never_become_bin_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first command was stopped between its shards and its .bin files; the second names another text and the same place."""
    from gpt_kit import data

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    texts = {name: tmp_path / f"{name}.txt" for name in ("first", "second")}
    for name, path in texts.items():
        path.write_text(f"the {name} text " * 50)
    words = ["--out", str(tmp_path / "out"), "--format", "bin", "--tokenizer", "byte"]
    with monkeypatch.context() as patch:
        patch.setattr(data, "export_bins", stopped)
        assert main(["prepare", str(texts["first"]), *words]) == 130
    assert main(["prepare", str(texts["second"]), *words]) == 0
    ids = np.fromfile(tmp_path / "out" / "train.bin", dtype="<u2")
    assert bytes(ids[1:12].tolist()) == b"the second "
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.txt", "out", "second.txt"]


def test_the_tokenizer_beside_the_ids_is_theirs(tmp_path: Path) -> None:
    """Bytes that once were read as GPT-2's first 256 entries; another tokenizer by name is refused."""
    (tmp_path / "a.txt").write_text("<|endoftext|>".join(DOCUMENTS))
    main(["prepare", str(tmp_path / "a.txt"), "--out", str(tmp_path / "out"), "--format", "bin", "--tokenizer", "byte"])
    assert main(["prepare", str(tmp_path / "out"), "--out", str(tmp_path / "corpus")]) == 0
    corpus = open_corpus(tmp_path / "corpus")
    assert corpus.tokenizer.name == "byte" and corpus.tokenizer.decode(ids_of(corpus.train)[1:]).startswith("Document ")
    gpt2 = tmp_path / "gpt2"
    GPT2.save(gpt2)
    with pytest.raises(DataError, match="beside the ids lies their tokenizer, 'byte'"):
        prepare_corpus(str(tmp_path / "out"), tmp_path / "other", CorpusConfig(tokenizer=str(gpt2)))


def test_ids_of_which_nothing_is_known_need_a_tokenizer_by_name(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["prepare", str(folder), "--out", str(tmp_path / "corpus")]) == 2
    assert "holds ids, and nothing says what they mean. Name the tokenizer" in capsys.readouterr().err
    assert main(["prepare", str(folder), "--out", str(tmp_path / "corpus"), "--tokenizer", "gpt2"]) == 0
    GPT2.save(folder)
    words = ["prepare", str(folder), "--out", str(tmp_path / "again")]
    assert main([*words, "--tokenizer", "byte"]) == 2
    assert main([*words, "--tokenizer=gpt2"]) == 0
