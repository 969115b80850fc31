"""The watch on real runs, each made to go wrong in one way: it names that and nothing else; on healthy runs it is silent."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gpt_kit.data import Batch, TrainingBatches

Run = Callable[..., tuple[int, str, str]]
Remarks = Callable[..., list[str]]
FLAGS = """
--data.tokenizer char --data.split contiguous
--model.n-layer 2 --model.n-embd 32 --model.n-head 2 --model.max-position-embeddings 32
--model.embedding-dropout 0 --model.attention-dropout 0 --model.residual-dropout 0
--training.batch-size 8 --training.warmup-steps 20 --training.learning-rate 3e-3 --training.precision float32 --training.device cpu
--evaluation.sample-tokens 0 --evaluation.interval 50 --checkpoints.interval 0 --logging.interval 100
""".split()
WINDOW_TOKENS = 8 * 32  # of one step


def sentences(tokens: int, seed: int = 0) -> str:
    """So much made-up text: 60 words, of which each can be followed by six others."""
    rng = random.Random(99)
    words = ["".join(rng.choices("abcdefghijklmnopq", k=rng.randint(2, 7))) for _ in range(60)]
    followers = {word: rng.choices(words, k=6) for word in words}
    rng, word, said = random.Random(seed), words[0], ""
    while len(said) < tokens:
        word = rng.choice(followers[word])
        said += word + " "
    return said


@pytest.fixture
def remarks(run: Run, tmp_path: Path) -> Remarks:
    """Train on `text` for `steps`, and give what the watch said."""

    def train(text: str, steps: int, *flags: object) -> list[str]:
        (tmp_path / "text.txt").write_text(text, encoding="utf-8")
        words = ["--data", tmp_path / "text.txt", "--out", tmp_path / "run", *FLAGS, "--training.max-steps", steps, *flags]
        code, out, err = run("train", *words)
        assert code == 0, err
        return [line for line in out.splitlines() if line.startswith("note: step ")]

    return train


@pytest.mark.parametrize("seed", range(3))
def test_a_healthy_run_is_left_in_peace(remarks: Remarks, seed: int) -> None:
    """Two passes over enough text."""
    assert remarks(sentences(200 * WINDOW_TOKENS, seed), 300, "--training.seed", seed) == []


def test_a_text_too_small_for_the_model_is_memorised(remarks: Remarks) -> None:
    """2,000 characters, read a hundred times: validation rises while training falls."""
    repeated, overfit = remarks(sentences(2000), 500, "--data.val-fraction", 0.4)
    assert "has been seen 4 times" in repeated
    assert "memorises" in overfit and "more text, more dropout" in overfit


def test_a_text_read_often_by_a_model_that_cannot_memorise_it_is_only_called_repeated(remarks: Remarks) -> None:
    (repeated,) = remarks(sentences(60 * WINDOW_TOKENS), 350)
    assert "has been seen 4 times" in repeated


def test_a_learning_rate_of_zero_learns_nothing(remarks: Remarks) -> None:
    (remark,) = remarks(sentences(100 * WINDOW_TOKENS), 200, "--training.learning-rate", 0)
    assert remark.startswith("note: step 120: ") and "nothing is learned" in remark


@pytest.mark.parametrize("rate", [1, 5])
def test_a_learning_rate_far_too_high_is_noticed(remarks: Remarks, rate: float) -> None:
    said = remarks(sentences(100 * WINDOW_TOKENS), 250, "--training.learning-rate", rate)
    assert said and all("--training.learning-rate" in remark for remark in said)
    assert not any("memorises" in remark for remark in said)


def test_a_batch_of_garbage_is_a_spike(remarks: Remarks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step 201 reads random letters, as a damaged shard would give: named by its step, and nothing is said of the steps around it."""
    batch = TrainingBatches.batch

    def garbled(self: TrainingBatches, number: int, *share: int) -> Batch:
        given = batch(self, number, *share)
        if number != 200:
            return given
        shuffled = given.targets.flatten()[torch.randperm(given.targets.numel(), generator=torch.Generator().manual_seed(0))]
        return Batch(given.inputs, shuffled.view_as(given.targets))

    monkeypatch.setattr(TrainingBatches, "batch", garbled)
    (remark,) = remarks(sentences(200 * WINDOW_TOKENS), 300)
    assert remark.startswith("note: step 201: the loss jumped to ")
