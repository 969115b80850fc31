"""Classification as a run: its loss by the written-out formula, however a batch is split; its files; its padding token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from gpt_kit.config import ModelConfig, TrainingConfig
from gpt_kit.data import LabelledIds, LabelledTexts
from gpt_kit.errors import CheckpointError
from gpt_kit.evaluation import evaluate_loss
from gpt_kit.finetuning.classification import (
    Classification,
    ClassifierFiles,
    balanced_weights,
    classifier_on,
    labelling_tokenizer,
)
from gpt_kit.model import GPTClassifier, GPTModel
from gpt_kit.runtime import choose_precision
from gpt_kit.tokenizers import END_OF_TEXT, chat_tokenizer, load_tokenizer, train_tokenizer
from gpt_kit.tokenizers.simple import ByteTokenizer
from gpt_kit.training import Optimizers, optimizer_step

CPU, FLOAT32 = torch.device("cpu"), choose_precision("float32", torch.device("cpu"))
TEXTS = LabelledTexts(("abcdefg", "ba", "x", "feed", "dad"), (0, 2, 1, 2, 2), ("low", "mid", "high"), ("",) * 5)
WEIGHTS = (2.0, 0.5, 1.5)


@pytest.fixture
def fresh(tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> Callable[[], GPTClassifier]:
    """The same classifier each time it is called."""

    def make() -> GPTClassifier:
        torch.manual_seed(4)
        return classifier_on(random_model(tiny_config(vocab_size=257)), TEXTS.names, 256, dropout=0.0)

    return make


@pytest.fixture
def model(fresh: Callable[[], GPTClassifier]) -> GPTClassifier:
    return fresh()


def update(model: GPTClassifier, objective: Classification, rows: list[list[int]]) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of one step over micro-batches of these texts."""
    data = LabelledIds(TEXTS, ByteTokenizer(), 11)
    optimizers = Optimizers(model, TrainingConfig(learning_rate=0.01, warmup_steps=0), CPU)
    parts = [data.batch(row, 256) for row in rows]
    report = optimizer_step(model, optimizers, parts, max_grad_norm=0.0, precision=FLOAT32, device=CPU, objective=objective)
    return report.loss, {name: parameter.grad for name, parameter in model.named_parameters()}


@torch.no_grad()
def labels_and_tokens(model: GPTClassifier) -> tuple[float, float]:
    """Both parts of the loss, each text alone; torch's own weighted mean for the first."""
    logits = torch.cat([model.label_logits(torch.tensor([list(text.encode())])) for text in TEXTS.texts])
    labels = F.cross_entropy(logits, torch.tensor(TEXTS.labels), torch.tensor(WEIGHTS))
    rows = [[*text.encode(), 256] for text in TEXTS.texts]
    nats = sum(F.cross_entropy(model(torch.tensor([row[:-1]]))[0], torch.tensor(row[1:]), reduction="sum").item() for row in rows)
    return labels.item(), nats / sum(len(text) for text in TEXTS.texts)


def test_the_loss_is_that_of_the_paper_written_out(fresh: Callable[[], GPTClassifier]) -> None:
    """Weighted mean over texts + λ · mean over all their tokens."""
    labels, tokens = labels_and_tokens(fresh())
    for lm_weight in (0.0, 0.5):
        loss, _ = update(fresh(), Classification(WEIGHTS, lm_weight), [[0, 1, 2, 3, 4]])
        assert loss == pytest.approx(labels + lm_weight * tokens, rel=1e-5)


@pytest.mark.parametrize("rows", [[[0, 1], [2, 3, 4]], [[0], [1, 2, 3, 4]], [[4], [3], [2], [1], [0]]])
def test_any_split_into_micro_batches_gives_the_same_gradients(rows: list[list[int]], fresh: Callable[[], GPTClassifier]) -> None:
    """Texts of 7, 2, 1, 4 and 3 tokens and unequal weights: a mean of means is another loss, as the control shows."""
    objective = Classification(WEIGHTS, 0.5)
    whole_loss, whole = update(fresh(), objective, [[0, 1, 2, 3, 4]])
    loss, gradients = update(fresh(), objective, rows)
    assert loss == pytest.approx(whole_loss, rel=1e-6)
    for name in whole:
        torch.testing.assert_close(gradients[name], whole[name], rtol=1e-4, atol=1e-6)
    means = [update(fresh(), objective, [part])[0] for part in rows]
    assert sum(means) / len(means) != pytest.approx(whole_loss, rel=1e-3)


def test_an_evaluation_tells_loss_accuracy_and_the_language_models_loss(model: GPTClassifier) -> None:
    data = LabelledIds(TEXTS, ByteTokenizer(), 11)
    with torch.no_grad():
        logits = torch.cat([model.label_logits(torch.tensor([ids])) for ids in data.ids])
    for rows in ([[0, 1, 2, 3, 4]], [[1, 0], [2, 3, 4]]):
        batches = [data.batch(row, 256) for row in rows]
        report = evaluate_loss(
            model, [*batches, batches[0].unscored()], precision=FLOAT32, device=CPU, objective=Classification(WEIGHTS, 0.5)
        )
        assert (report.mean, report.others["lm_loss"]) == pytest.approx(labels_and_tokens(model), rel=1e-5)
        assert report.others["accuracy"] == pytest.approx(float((logits.argmax(1) == torch.tensor(TEXTS.labels)).float().mean()))
    silent = evaluate_loss(model, batches, precision=FLOAT32, device=CPU, objective=Classification(WEIGHTS, 0.0))
    assert silent.others.keys() == {"accuracy"}


def test_balanced_labels_weigh_the_same_and_an_example_weighs_one_on_average() -> None:
    weights = balanced_weights([10, 30, 60])
    assert [weight * count for weight, count in zip(weights, [10, 30, 60], strict=True)] == pytest.approx([100 / 3] * 3)


def test_a_classifier_begins_as_its_base(tiny_config: Any, random_model: Any) -> None:
    base = random_model(tiny_config(vocab_multiple=8, residual_dropout=0.1))
    model = classifier_on(base, ("a", "b"), 0, inner_dropout=0.3).eval()
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(model(ids), base(ids))
    dropouts = [getattr(model.config, f"{what}_dropout") for what in ("embedding", "attention", "residual")]
    assert dropouts == [0.3, 0.3, 0.3] and base.config.residual_dropout == 0.1


def test_files_come_back_to_the_bit_and_other_labels_are_refused(model: GPTClassifier, tmp_path: Path) -> None:
    files = ClassifierFiles()
    files.write(tmp_path, model, files.tensors(model), 256)
    other = GPTClassifier(model.config, TEXTS.names, 256)
    files.read(tmp_path, other)
    assert all(torch.equal(tensor, other.exported_tensors()[name]) for name, tensor in model.exported_tensors().items())
    with pytest.raises(CheckpointError, match=r"its labels are low, mid, high; this run's are good, bad"):
        files.read(tmp_path, GPTClassifier(model.config, ("good", "bad"), 256))


def test_the_padding_token_is_one_that_no_text_contains() -> None:
    gpt2, number = labelling_tokenizer(load_tokenizer("gpt2"))
    assert (number, gpt2.roles["pad_token"], load_tokenizer("gpt2").roles) == (50256, END_OF_TEXT, {})
    appended, number = labelling_tokenizer(ByteTokenizer({}))
    assert (number, appended.vocab_size, appended.end_of_text_id) == (256, 257, 256)
    own = load_tokenizer("byte").with_special_tokens(["<pad>"])
    own.roles = {"pad_token": "<pad>"}
    same, number = labelling_tokenizer(own)
    assert (number, same.special_tokens, same.closing_token) == (257, own.special_tokens, None)


def test_a_closing_token_is_the_end_token_and_another_one_fills_up() -> None:
    closed, number = labelling_tokenizer(load_tokenizer("gpt2"), closing_token=True)
    assert (number, closed.closing_token, closed.roles["pad_token"], closed.vocab_size) == (50257, END_OF_TEXT, "<|pad|>", 50258)
    data = LabelledIds(LabelledTexts(("a b c d", "a"), (0, 1), ("no", "yes"), ("", "")), closed, 3)
    batch = data.batch([0, 1], number)
    assert batch.inputs[:, -1].tolist() == [50256, 50257] and batch.inputs[1, 1] == 50256
    assert batch.targets[0].tolist() == [batch.inputs[0, 1], 50256, -100]  # what stands behind the closing token is nothing
    assert (batch.last.tolist(), data.num_cut) == ([2, 1], 1)
    again, same = labelling_tokenizer(closed)
    assert (same, again.closing_token, again.vocab_size) == (50257, None, 50258)
    assert chat_tokenizer(closed).closing_token is None  # an answer is not what stands before the end token of its question


@pytest.mark.parametrize("closing", [False, True])
def test_transformers_gives_the_same_answers_from_the_text_on(closing: bool, tiny_config: Any, random_model: Any, tmp_path: Path) -> None:
    """Its tokenizer, its padding and its model, from the files of one folder; texts of unequal length in one batch."""
    texts = ["the cat sat on", "a mat", "the"]
    tokenizer, pad = labelling_tokenizer(train_tokenizer("bpe", texts * 5, vocab_size=270), closing)
    model = classifier_on(random_model(tiny_config(vocab_size=tokenizer.vocab_size)), ("no", "yes"), pad)
    files = ClassifierFiles()
    files.write(tmp_path, model, files.tensors(model), tokenizer.end_of_text_id)
    tokenizer.save(tmp_path)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    encoded = AutoTokenizer.from_pretrained(tmp_path)(texts, padding=True, return_tensors="pt")
    assert (encoded["attention_mask"] == 0).any()
    assert load_tokenizer(tmp_path).closing_token == tokenizer.closing_token
    data = LabelledIds(LabelledTexts(tuple(texts), (0, 0, 0), ("no", "yes"), ("",) * 3), load_tokenizer(tmp_path), 11)
    batch = data.batch([0, 1, 2], pad)
    assert torch.equal(batch.inputs, encoded["input_ids"])
    with torch.no_grad():
        ours, _ = model.eval().label_logits_and_loss_sum(batch.inputs, batch.last, None)
        torch.testing.assert_close(ours, theirs(**encoded).logits, rtol=1e-5, atol=1e-5)
