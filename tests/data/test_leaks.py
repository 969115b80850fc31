"""Near-duplicates between validation and training are found where they were planted, and nowhere else."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import pytest

from gpt_kit.config import CorpusConfig
from gpt_kit.data import TokenArray, leaks, prepare_corpus
from gpt_kit.data.leaks import find_leaks

END = 999


def document(rng: random.Random, length: int) -> list[int]:
    """Words by Zipf's law, so that common pairs recur as they do in a language."""
    return [END, *(min(int(rng.paretovariate(0.7)), 900) for _ in range(length))]


def edited(rng: random.Random, ids: list[int], every: int) -> list[int]:
    """About every so many tokens one is changed, left out or put in."""
    out = []
    for number in ids:
        change = rng.randrange(3) if number != END and rng.random() < 1 / every else 3
        out += ([950], [], [number, 951], [number])[change]
    return out


def corpus(seed: int, planted: int, every: int) -> tuple[TokenArray, TokenArray]:
    rng = random.Random(seed)
    train = [document(rng, rng.randint(150, 900)) for _ in range(150)]
    val = [document(rng, rng.randint(150, 900)) for _ in range(40)]
    for number in range(planted):
        val[number * 2] = edited(rng, train[number * 5], every)
    sides = [np.array([token for text in side for token in text], dtype=np.uint16) for side in (train, val)]
    return TokenArray(np.array_split(sides[0], 3)), TokenArray([sides[1]])


@pytest.mark.parametrize("every", [10**9, 200, 100])
@pytest.mark.parametrize("block", [1 << 18, 5000])
def test_planted_copies_with_edits_are_found(monkeypatch, every: int, block: int) -> None:
    """12 of 40 documents are training text with one token in 100 changed, or none; wherever the blocks end."""
    monkeypatch.setattr(leaks, "_BLOCK", block)
    train, val = corpus(1, planted=12, every=every)
    found = find_leaks(train, val, END)
    assert found.documents_checked == 40
    assert abs(found.documents_near_training - 12) <= (0 if every > 100 else 2)
    assert found.example is not None
    place = found.example
    assert val.read(place["val"], leaks.WINDOW).tolist() == train.read(place["train"], leaks.WINDOW).tolist()


def test_a_clean_corpus_has_none() -> None:
    """The control: the same kind of text without copies. And one in four words changed is another text."""
    assert find_leaks(*corpus(2, planted=0, every=1), END) == leaks.Leaks(40, 0, None)
    assert find_leaks(*corpus(3, planted=12, every=4), END).documents_near_training == 0


def test_a_long_validation_text_is_sampled_evenly(monkeypatch) -> None:
    """A tenth of it is looked at: memory stays bounded, and the share is still about right."""
    train, val = corpus(1, planted=20, every=300)
    monkeypatch.setattr(leaks, "_BLOCK", 1000)
    monkeypatch.setattr(leaks, "CHECKED_TOKENS", len(val) // 3)
    found = find_leaks(train, val, END)
    assert 5 < found.documents_checked < 40
    assert 0.25 < found.documents_near_training / found.documents_checked < 0.75


def test_texts_without_windows_say_nothing() -> None:
    short = TokenArray([np.arange(20, dtype=np.uint16)])
    assert find_leaks(short, short, END) == find_leaks(TokenArray([]), TokenArray([]), None) == leaks.Leaks(0, 0, None)


def test_preparing_reports_the_leak_with_a_place(tmp_path: Path) -> None:
    """A paragraph edited here and there, on both sides of the split."""
    rng = random.Random(0)
    words = [f"{a}{b}" for a in ("ka", "lo", "mi", "ne", "su", "ta") for b in ("ren", "dos", "vil", "pam", "gor")]
    texts = [" ".join(rng.choices(words, k=300)) for _ in range(30)]
    texts += [text.replace(text.split()[100], "CHANGED", 1) for text in texts]
    (tmp_path / "a.txt").write_text("<|endoftext|>".join(texts))
    info = prepare_corpus(str(tmp_path / "a.txt"), tmp_path / "corpus", CorpusConfig(val_fraction=0.2)).info
    near = info["near_duplicates"]
    assert info["val_documents_seen_in_training"] == 0
    assert near["documents_checked"] == info["val"]["documents"]
    assert near["documents_near_training"] > near["documents_checked"] / 2
    assert near["example"]["text"] in " ".join(texts)


def test_it_is_cheap() -> None:
    """10 million tokens in well under half a second on one core; asked for here at a fifth of that, for machines under load."""
    train = TokenArray([np.random.default_rng(0).integers(0, 50_000, 5_000_000).astype(np.uint16)])
    val = TokenArray([np.random.default_rng(1).integers(0, 50_000, 500_000).astype(np.uint16)])
    began = time.perf_counter()
    find_leaks(train, val, END)
    assert time.perf_counter() - began < 1.2
