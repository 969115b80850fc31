"""GPTClassifier: the last real token is scored wherever the padding is, and both heads agree with their written-out forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from gpt_kit.config import ModelConfig
from gpt_kit.errors import InputError
from gpt_kit.model import GPTClassifier, GPTModel

LABELS = ("bad", "fair", "good")
TEXTS = [[5, 17, 3, 60, 8, 1, 9], [2, 2, 44], [33], [7, 0, 12, 0, 0]]  # 0 is the padding id, and also a token like any other
PAD = 0


@pytest.fixture
def classifier(tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> Callable[..., GPTClassifier]:
    def make(**changes: Any) -> GPTClassifier:
        config = tiny_config(**changes)
        torch.manual_seed(5)
        model = GPTClassifier(config, LABELS, PAD).eval()
        model.load_tensors({**random_model(config).exported_tensors(), "score.weight": torch.randn(3, 24)})
        return model

    return make


def padded(texts: list[list[int]], side: str, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids, mask = torch.full((len(texts), width), PAD), torch.zeros(len(texts), width, dtype=torch.long)
    for row, text in enumerate(texts):
        columns = slice(len(text)) if side == "right" else slice(width - len(text), width)
        ids[row, columns], mask[row, columns] = torch.tensor(text), 1
    return ids, mask


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_padding_on_either_side_or_none_gives_the_same_answer(classifier: Any, norm: str, positions: str) -> None:
    """Each text alone is the reference; texts end in the padding id, so pooling by value would take another token."""
    model = classifier(norm=norm, position_embedding=positions, qkv_bias=positions == "learned")
    texts = [*TEXTS, [4, 0]]
    alone = torch.cat([model.label_logits(torch.tensor([text])) for text in texts])
    assert alone.std(dim=0).min() > 0.1  # the control: the answers differ
    for side in ("left", "right"):
        for width in (7, 11):
            torch.testing.assert_close(model.label_logits(*padded(texts, side, width)), alone, rtol=1e-5, atol=1e-5)


def test_the_label_is_read_from_the_last_real_token(classifier: Any) -> None:
    model = classifier()
    ids, mask = padded(TEXTS, "right", 9)
    hidden = model.hidden_states(ids, mask)
    expected = torch.stack([hidden[row, len(text) - 1] @ model.score.weight.T for row, text in enumerate(TEXTS)])
    torch.testing.assert_close(model.label_logits(ids, mask), expected)


def test_a_row_of_nothing_but_padding_is_refused(classifier: Any) -> None:
    ids, mask = padded(TEXTS, "right", 7)
    mask[1] = 0
    with pytest.raises(InputError, match="without any token"):
        classifier().label_logits(ids, mask)


@pytest.mark.parametrize("tied", [True, False])
def test_both_heads_after_one_pass_are_those_of_two(classifier: Any, tied: bool) -> None:
    """Values and gradients: the tied matrix gets the embedding's, the head's and, through the blocks, the label's."""
    model = classifier(tie_word_embeddings=tied, vocab_multiple=8)
    ids, mask = padded(TEXTS, "right", 7)
    last = mask.sum(dim=1) - 1
    targets = torch.where(mask[:, 1:] == 1, ids[:, 1:], -100)
    targets = torch.cat((targets, torch.full((4, 1), -100)), dim=1)
    labels = torch.tensor([2, 0, 1, 1])

    logits, nats = model.label_logits_and_loss_sum(ids, last, targets)
    (F.cross_entropy(logits, labels, reduction="sum") + 0.3 * nats).backward()
    together = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    model.zero_grad()
    reference = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten(), reduction="sum")
    torch.testing.assert_close(nats, reference)
    torch.testing.assert_close(logits, model.label_logits(ids, mask))
    (F.cross_entropy(model.label_logits(ids, mask), labels, reduction="sum") + 0.3 * reference).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(together[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_without_targets_the_language_model_costs_and_learns_nothing(classifier: Any) -> None:
    model = classifier(tie_word_embeddings=False)
    ids, mask = padded(TEXTS, "right", 7)
    logits, nats = model.label_logits_and_loss_sum(ids, mask.sum(dim=1) - 1, None)
    logits.sum().backward()
    assert nats == 0 and model.head.weight.grad is None
    torch.testing.assert_close(logits, model.label_logits(ids, mask))


def test_dropout_is_on_the_pooled_state_and_in_training_only(tiny_config: Any) -> None:
    model = GPTClassifier(tiny_config(), LABELS, PAD, dropout=0.9)
    ids, mask = padded(TEXTS, "right", 7)
    assert (model.eval().label_logits(ids, mask) == model.label_logits(ids, mask)).all()
    assert (model.train().label_logits(ids, mask) != model.label_logits(ids, mask)).any()


def test_labels_are_scored_in_float32_under_autocast(classifier: Any) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert classifier().label_logits(*padded(TEXTS, "left", 7)).dtype is torch.float32
