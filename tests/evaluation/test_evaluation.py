"""Loss over a text: sums divided once, the same whatever the batches; and the figures that follow from it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gpt_kit.config import ModelConfig
from gpt_kit.data import Batch, EvaluationBatches, TokenArray
from gpt_kit.errors import DataError
from gpt_kit.evaluation import LossReport, evaluate_loss, predict_batch, predictions_as_markdown
from gpt_kit.model import GPTModel
from gpt_kit.runtime import choose_precision
from gpt_kit.tokenizers import train_tokenizer

CPU = torch.device("cpu")
FLOAT32 = choose_precision("float32", CPU)


@pytest.fixture
def model(tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> GPTModel:
    return random_model(tiny_config())


@pytest.fixture
def tokens() -> TokenArray:
    return TokenArray([np.random.default_rng(0).integers(0, 61, 53)])


@torch.no_grad()
def by_hand(model: GPTModel, ids: list[int], length: int, stride: int) -> float:
    """Nats of every token but the first, one by one, each from the window that scores it first."""
    nats, done, start = 0.0, 0, 0
    while done < len(ids) - 1:
        window = ids[start : start + length]
        log_probabilities = model(torch.tensor([window]))[0].log_softmax(-1)
        for place in range(done - start, min(len(window), len(ids) - 1 - start)):
            nats -= log_probabilities[place, ids[start + place + 1]].item()
        done, start = min(start + length, len(ids) - 1), start + stride
    return nats


@pytest.mark.parametrize("stride", [11, 4, 1])
@pytest.mark.parametrize("rows", [1, 3, 50])
def test_the_loss_of_a_text_is_the_sum_over_its_tokens(model: GPTModel, tokens: TokenArray, stride: int, rows: int) -> None:
    """Token by token by hand; the same in batches of any size, the short last window included."""
    batches = EvaluationBatches(tokens, length=11, batch_size=rows, stride=stride)
    report = evaluate_loss(model, batches, precision=FLOAT32, device=CPU)
    assert report.tokens == 52
    assert report.nats == pytest.approx(by_hand(model, tokens.read(0, 53).tolist(), 11, stride), rel=1e-5)


def test_a_mean_of_batch_means_would_be_another_number(model: GPTModel, tokens: TokenArray) -> None:
    batches = list(EvaluationBatches(tokens, length=11, batch_size=2))
    assert batches[-1].num_scored != batches[0].num_scored
    report = evaluate_loss(model, batches, precision=FLOAT32, device=CPU)
    with torch.no_grad():
        means = [F.cross_entropy(model(b.inputs).flatten(0, 1), b.targets.flatten()).item() for b in batches]
    assert abs(sum(means) / len(means) - report.mean) > 1e-3


def test_dropout_is_off_and_the_mode_is_put_back(
    tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel], tokens: TokenArray
) -> None:
    model = random_model(tiny_config(residual_dropout=0.5)).train()
    batches = EvaluationBatches(tokens, length=11, batch_size=3)
    counted: list[int] = []
    reports = [evaluate_loss(model, batches, precision=FLOAT32, device=CPU, progress=counted.append) for _ in range(2)]
    assert reports[0] == reports[1]
    assert model.training
    assert counted == [1, 2] * 2 and len(batches) == 2


def test_figures_follow_from_nats_and_tokens() -> None:
    report = LossReport(nats=10 * math.log(8), tokens=10)
    assert report.mean == pytest.approx(math.log(8))
    assert report.perplexity == pytest.approx(8)
    assert report.bits_per_byte(15) == pytest.approx(10 * 3 / 15)
    assert LossReport(800.0, 1).perplexity == math.inf


def test_nothing_to_score_is_refused(model: GPTModel) -> None:
    masked = Batch(torch.zeros(2, 3, dtype=torch.long), torch.full((2, 3), -100))
    for batches in ([masked], []):
        with pytest.raises(DataError, match="no token is scored"):
            evaluate_loss(model, batches, precision=FLOAT32, device=CPU)


def test_predictions_stand_beside_their_targets(model: GPTModel) -> None:
    """First choice and probability are those of the logits; targets that are not scored are left out; the table survives any text."""
    tokenizer = train_tokenizer("char", ["".join(map(chr, range(0x60, 0x60 + 29))) + " \n|" + "".join(map(chr, range(0x400, 0x41E)))])
    assert tokenizer.vocab_size == 61
    ids = torch.tensor([tokenizer.encode(text) for text in ("`|\n a|", "b`\nc |")])
    targets = ids.roll(-1, 1)
    targets[0, 4:] = -100
    predictions = predict_batch(model, Batch(ids, targets), tokenizer, CPU, rows=2)
    assert [p.input for p in predictions] == ["`", "|", "\n", " ", *"b`\nc |"]
    assert "".join(p.target for p in predictions) == "|\n a" + "`\nc |b"
    with torch.no_grad():
        probabilities = model(ids).softmax(-1)
    assert predictions[1].probability == pytest.approx(probabilities[0, 1, targets[0, 1]].item(), rel=1e-5)
    assert predictions[1].predicted == tokenizer.decode([int(probabilities[0, 1].argmax())])
    table = predictions_as_markdown(predictions).splitlines()
    assert len(table) == 12 and all(line.count("|") == 6 for line in table)


def test_only_the_positions_asked_for_are_computed(model: GPTModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut before the model: the same predictions as the first of all, from a head that sees the scored positions alone."""
    tokenizer = train_tokenizer("char", ["".join(map(chr, range(0x100, 0x100 + 61)))])
    ids = torch.randint(0, 61, (3, 11), generator=torch.Generator().manual_seed(0))
    batch = Batch(ids, ids.roll(-1, 1), torch.tensor([[0] * 4 + [1] * 7] * 3))
    batch.targets[1, 1] = -100
    everything = predict_batch(model, batch, tokenizer, CPU, rows=3)
    shapes: list[tuple[int, ...]] = []
    linear = F.linear
    monkeypatch.setattr(F, "linear", lambda x, *rest: shapes.append(tuple(x.shape)) or linear(x, *rest))
    few = predict_batch(model, batch, tokenizer, CPU, rows=2, positions=4)
    assert {shape[-2] for shape in shapes} == {4, 7} and shapes[-1] == (7, 24)
    for found, expected in zip(few, [*everything[:4], everything[11], *everything[12:14]], strict=True):
        assert (found.input, found.target, found.predicted) == (expected.input, expected.target, expected.predicted)
        assert found.probability == pytest.approx(expected.probability, rel=1e-4)
