"""Parts that many machines prepared become the corpus that one would have made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gpt_kit.config import CorpusConfig
from gpt_kit.data import encoding, prepare, prepare_corpus
from gpt_kit.errors import DataError
from gpt_kit.files import check_manifest

BYTES = CorpusConfig(tokenizer="byte")
END = 256


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three sources, each larger than what counts as small here, and all of them in one folder."""
    monkeypatch.setattr(prepare, "SMALL_BYTES", 6000)
    monkeypatch.setattr(encoding, "UNIT_BYTES", 1500)
    (tmp_path / "texts").mkdir()
    for part in range(3):
        rows = [json.dumps({"text": f"part {part}, document {i} " + "word " * (i % 9)}) for i in range(60)]
        (tmp_path / "texts" / f"{part}.jsonl").write_text("\n".join(rows))
        prepare_corpus(str(tmp_path / "texts" / f"{part}.jsonl"), tmp_path / "parts" / str(part), BYTES)
    return tmp_path


def documents_in(tokens) -> list[bytes]:
    ids = tokens.read(0, len(tokens))
    return [bytes(part[1:].tolist()) for part in np.split(ids, np.flatnonzero(ids == END))[1:]]


@pytest.mark.parametrize("source", ["parts", "parts/*"])
def test_the_parts_together_are_the_whole(parts: Path, source: str) -> None:
    """The same documents on the same side, in the same order, as one preparation of all files."""
    joined = prepare_corpus(str(parts / source), parts / "joined", BYTES)
    whole = prepare_corpus(str(parts / "texts"), parts / "whole", BYTES)
    for side in ("train", "val"):
        assert documents_in(getattr(joined, side)) == documents_in(getattr(whole, side)) != []
        for name in ("tokens", "documents", "bytes", "characters"):
            assert joined.info[side][name] == whole.info[side][name]
    assert joined.info["split"] == "document"
    check_manifest(parts / "joined")


def test_parts_of_different_tokenizers_are_refused(parts: Path) -> None:
    prepare_corpus(str(parts / "texts" / "0.jsonl"), parts / "parts" / "3", CorpusConfig(tokenizer="char"))
    with pytest.raises(DataError, match=r"parts/3: cut by tokenizer <char .* but .*parts/0 by <byte"):
        prepare_corpus(str(parts / "parts"), parts / "joined", BYTES)
    assert not (parts / "joined").exists()


def test_the_sum_tells_what_the_parts_told(parts: Path) -> None:
    """What was left out of a part is not forgotten; what nobody measured is null; the settings are those that made the parts."""
    (parts / "texts" / "3.jsonl").write_text('{"text": "sound"}\n{"no": 1}\n{"text": ""}\n' * 30)
    skip = CorpusConfig(tokenizer="byte", on_damaged="skip", split="document", val_fraction=0.0)
    part = prepare_corpus(str(parts / "texts" / "3.jsonl"), parts / "parts" / "3", skip)
    info = prepare_corpus(str(parts / "parts"), parts / "joined", CorpusConfig()).info
    assert info["read"]["skipped"] == part.info["read"]["skipped"] == {"key missing": 30}
    assert (info["read"]["documents"], info["read"]["empty"], info["joined"]) == (180 + 90, 30, 4)
    assert info["duplicates"] is None and info["val_documents_seen_in_training"] is None
    assert info["settings"]["tokenizer"] == "byte" and info["settings"]["on_damaged"] is None


def test_an_option_that_would_do_nothing_is_refused(parts: Path) -> None:
    with pytest.raises(DataError, match=r"joined as they are, so --tokenizer, --val-fraction would change nothing"):
        prepare_corpus(str(parts / "parts"), parts / "joined", CorpusConfig(tokenizer="char", val_fraction=0.3))


@pytest.mark.parametrize("source", ["parts", "parts/*", "parts/[0-9]"])
def test_an_unfinished_part_is_not_left_out(parts: Path, source: str) -> None:
    (parts / "parts" / ".incomplete-3").mkdir()
    with pytest.raises(DataError, match=r"parts/.incomplete-3: this part is not finished"):
        prepare_corpus(str(parts / source), parts / "joined", BYTES)


def test_texts_beside_a_corpus_are_the_source_and_the_corpus_is_none(parts: Path) -> None:
    """Neither are the texts dropped, nor do the corpus's own JSON files become text."""
    (parts / "parts" / "more").mkdir()
    with pytest.raises(DataError, match="holds prepared corpora and no text"):
        prepare_corpus(str(parts / "parts"), parts / "mixed", BYTES)
    (parts / "parts" / "more" / "a.txt").write_text("a text of its own")
    corpus = prepare_corpus(str(parts / "parts"), parts / "mixed", CorpusConfig(tokenizer="byte", val_fraction=0.0))
    assert documents_in(corpus.train) == [b"a text of its own"]
