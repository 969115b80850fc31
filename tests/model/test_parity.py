"""Logits and gradients against transformers, with the same random weights: GPT-1 and GPT-2, plain and padded on either side.

Weights, norms and biases are drawn wide (std 0.4), so that a mistake shows: the controls at the end make three famous ones
on purpose and find that they would not pass.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM

from gpt_kit.config import ModelConfig
from gpt_kit.model import GELU, GPTModel, MultiHeadAttention
from gpt_kit.weights.names import to_published

TOLERANCE = 1e-4
VISIBLE = 1e-3  # what a mistake must change at least, for these tests to see it
LENGTHS = {"plain": (7, 7, 7), "left": (4, 7, 2), "right": (4, 7, 2)}
KINDS = {"gpt2": {"norm": "pre"}, "openai-gpt": {"norm": "post", "n_inner": 0, "vocab_size": 53}}


def batch(padding: str, vocab_size: int) -> tuple[Tensor, Tensor]:
    """Ids (3, 7) and mask (3, 7), 0 at padding."""
    lengths = torch.tensor(LENGTHS[padding])[:, None]
    column = torch.arange(7)[None]
    mask = column >= 7 - lengths if padding == "left" else column < lengths
    ids = torch.randint(0, vocab_size, (3, 7), generator=torch.Generator().manual_seed(5))
    return ids, mask.long()


def real_loss(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """Mean cross-entropy over the targets that follow a real token."""
    scored = mask[:, :-1].bool() & mask[:, 1:].bool()
    return F.cross_entropy(logits[:, :-1][scored], ids[:, 1:][scored])


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ours(kind: str, tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> GPTModel:
    return random_model(tiny_config(**KINDS[kind]), std=0.4)


@pytest.fixture
def theirs(ours: GPTModel, kind: str, tmp_path: Path) -> torch.nn.Module:
    ours.save_pretrained(tmp_path / "model")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what transformers thinks of itself is not under test
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", attn_implementation="eager").eval()
    assert model.config.model_type == kind
    return model


def their_logits(model: torch.nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)  # positions follow the mask
    return model(input_ids=ids, attention_mask=mask, position_ids=positions).logits


@pytest.mark.parametrize("padding", LENGTHS)
def test_logits_and_gradients_are_those_of_transformers(ours: GPTModel, theirs: torch.nn.Module, kind: str, padding: str) -> None:
    """Every logit of a real token, and every entry of every parameter's gradient, to 1e-4 in float32."""
    ids, mask = batch(padding, ours.config.vocab_size)
    our_logits = ours(ids, None if padding == "plain" else mask)
    expected = their_logits(theirs, ids, mask)
    real = mask.bool()
    torch.testing.assert_close(our_logits[real], expected[real], rtol=0, atol=TOLERANCE)

    real_loss(our_logits, ids, mask).backward()
    real_loss(expected, ids, mask).backward()
    gradients = to_published({name: parameter.grad for name, parameter in ours.named_parameters()}, kind)
    expected_gradients = {name.removeprefix("transformer."): p.grad for name, p in theirs.named_parameters()}
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=0, atol=TOLERANCE, msg=lambda text, n=name: f"{n}: {text}")
    largest = max(gradient.abs().max().item() for gradient in gradients.values())
    assert largest > 100 * TOLERANCE, "gradients too small to compare: this test would pass on zeros"


def test_rows_of_nothing_but_padding_are_finite(ours: GPTModel) -> None:
    """A row without one real token gives finite logits and gradients, and does not disturb the row beside it."""
    ids, _ = batch("plain", ours.config.vocab_size)
    mask = torch.tensor([[0] * 7, [1] * 7, [0, 0, 1, 1, 1, 0, 0]])
    logits = ours(ids, mask)
    assert logits.isfinite().all()
    torch.testing.assert_close(logits[1], ours(ids[1:2])[0], rtol=0, atol=1e-5)
    logits.square().mean().backward()
    for name, parameter in ours.named_parameters():
        assert parameter.grad.isfinite().all(), name


def test_what_stands_in_padding_does_not_matter(ours: GPTModel) -> None:
    """Other ids at padded places, left or right, leave every real logit as it was."""
    for padding in ("left", "right"):
        ids, mask = batch(padding, ours.config.vocab_size)
        changed = torch.where(mask.bool(), ids, (ids + 1) % ours.config.vocab_size)
        torch.testing.assert_close(ours(changed, mask)[mask.bool()], ours(ids, mask)[mask.bool()], rtol=0, atol=1e-6)


@torch.no_grad()
def test_control_the_exact_gelu_would_be_noticed(ours: GPTModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The erf form of GELU, GPT-2's best known mistake, moves logits by more than these tests allow."""
    ids, _ = batch("plain", ours.config.vocab_size)
    right = ours(ids)
    monkeypatch.setattr(GELU, "forward", lambda _, x: F.gelu(x))
    assert (ours(ids) - right).abs().max() > VISIBLE


@torch.no_grad()
def test_control_a_missing_final_norm_would_be_noticed(
    tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]
) -> None:
    model = random_model(tiny_config(norm="pre"), std=0.4)
    ids, _ = batch("plain", 61)
    right = model(ids)
    model.final_norm = torch.nn.Identity()
    assert (model(ids) - right).abs().max() > VISIBLE


@torch.no_grad()
def test_control_a_mask_over_queries_would_be_noticed(ours: GPTModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A padding mask of shape (B, 1, T, 1) hides queries, not keys: real tokens then look at left padding."""
    ids, mask = batch("left", ours.config.vocab_size)
    right = ours(ids, mask)

    def masks_queries(module: MultiHeadAttention, x: Tensor, *_: object, norm: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
        q, k, v = module.qkv(norm(x)).view(*x.shape[:2], 3, module.n_head, -1).permute(2, 0, 3, 1, 4)
        visible = mask.bool()[:, None, :, None] & torch.ones(7, 7, dtype=torch.bool).tril()
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        return module.projection(mixed.nan_to_num().transpose(1, 2).flatten(2))

    monkeypatch.setattr(MultiHeadAttention, "forward", masks_queries)
    assert (ours(ids, mask) - right)[mask.bool()].abs().max() > VISIBLE
