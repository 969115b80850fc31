"""A sound corpus passes; each way in which a text cannot teach is named."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gpt_kit.config import CorpusConfig
from gpt_kit.data import Corpus, prepare_corpus
from gpt_kit.data.shards import TokenArray
from gpt_kit.doctor import corpus as module
from gpt_kit.doctor import corpus_checks, examine
from gpt_kit.tokenizers import load_tokenizer, train_tokenizer

LENGTH = 64


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """60,000 characters of random sentences, a fifth of them set aside."""
    rng, folder = random.Random(0), tmp_path_factory.mktemp("corpus")
    words = ["".join(rng.choices("abcdefghij", k=rng.randint(2, 7))) for _ in range(300)]
    (folder / "text.txt").write_text(" ".join(rng.choices(words, k=11_000)), encoding="utf-8")
    return prepare_corpus(str(folder / "text.txt"), folder / "corpus", CorpusConfig(tokenizer="char", val_fraction=0.2))


def failed(corpus: Corpus, length: int = LENGTH, **options: object) -> set[str]:
    return {finding.what for finding in examine(corpus_checks(corpus.folder, length, **options)) if not finding.ok}


def test_a_sound_corpus_passes(corpus: Corpus) -> None:
    assert failed(corpus) == set()
    assert failed(corpus, model_tokenizer=lambda: corpus.tokenizer) == set()


@pytest.fixture
def opened_as(monkeypatch: pytest.MonkeyPatch, corpus: Corpus) -> Callable[..., Corpus]:
    """Let the corpus open with other contents than it has."""

    def change(**sides: np.ndarray) -> Corpus:
        parts = {"train": corpus.train, "val": corpus.val} | {name: TokenArray([ids]) for name, ids in sides.items()}
        monkeypatch.setattr(module, "open_corpus", lambda *_, **__: Corpus(corpus.folder, corpus.info, tokenizer=corpus.tokenizer, **parts))
        return corpus

    return change


def test_validation_text_out_of_the_training_text_is_named(corpus: Corpus, opened_as: Callable[..., Corpus]) -> None:
    assert failed(opened_as(val=corpus.train.read(1001, 5000))) == {"validation text is not training text"}


def test_ids_beyond_the_vocabulary_are_named(corpus: Corpus, opened_as: Callable[..., Corpus]) -> None:
    ids = corpus.train.read(0, len(corpus.train))
    ids[-3] = corpus.tokenizer.vocab_size
    assert failed(opened_as(train=ids)) == {"ids within the vocabulary"}


def test_a_text_too_short_for_one_window_or_for_a_validation_is_named(corpus: Corpus, opened_as: Callable[..., Corpus]) -> None:
    assert failed(corpus, length=10**6) == {"long enough"}
    assert failed(opened_as(val=corpus.val.read(0, 500))) == {"long enough"}


def test_another_models_tokenizer_is_named(corpus: Corpus) -> None:
    assert failed(corpus, model_tokenizer=lambda: train_tokenizer("char", ["xyz"])) == {"tokenizer is the model's"}


def test_a_model_without_a_tokenizer_is_a_finding_like_any_other(corpus: Corpus, tmp_path: Path) -> None:
    """Told in the error's own words, with what to do; the checks after it are made."""
    findings = list(examine(corpus_checks(corpus.folder, LENGTH, lambda: load_tokenizer(tmp_path))))
    (finding,) = (finding for finding in findings if not finding.ok)
    assert finding.what == "tokenizer is the model's" and len(findings) == 7
    assert finding.figure.startswith(f"{tmp_path}: no tokenizer is here") and "beside it" in finding.remedy


def test_a_flipped_bit_and_a_folder_that_is_no_corpus_are_named(corpus: Corpus, tmp_path: Path) -> None:
    (shard,) = corpus.folder.glob("train-*.tokens")
    content = shard.read_bytes()
    try:
        shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert "every byte as it was written" in failed(corpus)
    finally:
        shard.write_bytes(content)
    (finding,) = examine(corpus_checks(tmp_path, LENGTH))
    assert not finding.ok and "gpt-kit prepare" in finding.figure, "said once: the other checks have nothing to look at"
