"""The published models have exactly the parameters that were published, counted twice: by formula and on the modules."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gpt_kit.config import ModelConfig, create_model_config
from gpt_kit.model import GPTModel, count_model

PUBLISHED = {
    "gpt1 (117M)": 116_534_784,
    "gpt2-small (124M)": 124_439_808,
    "gpt2-medium (355M)": 354_823_168,
    "gpt2-large (774M)": 774_030_080,
    "gpt2-xl (1558M)": 1_557_611_200,
}


def on_modules(config: ModelConfig) -> int:
    with torch.device("meta"):
        return sum(tensor.numel() for tensor in GPTModel(config).exported_tensors().values())


@pytest.mark.parametrize(("name", "expected"), PUBLISHED.items())
def test_a_published_model_has_exactly_its_parameters(name: str, expected: int) -> None:
    config = create_model_config(name)
    assert count_model(config).total_parameters == expected
    assert on_modules(config) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"tie_word_embeddings": False},
        {"norm": "post"},
        {"position_embedding": "rotary"},
        {"position_embedding": "sinusoidal"},
        {"qkv_bias": False},
        {"n_inner": 0},
        {"vocab_multiple": 64},
    ],
    ids=str,
)
def test_formula_and_modules_agree_for_every_switch(tiny_config: Callable[..., ModelConfig], changes: dict[str, object]) -> None:
    """Rows that only pad the vocabulary are counted by neither."""
    config = tiny_config(**changes)
    assert count_model(config).total_parameters == on_modules(config)


def test_arithmetic_is_that_of_its_closed_form() -> None:
    """GPT-2: 2 · (12 · L · C² + V · C) for the matrices and 2 · L · C · (T + 1) for scores and mixing over half a context."""
    counts = count_model(create_model_config("gpt2"))
    assert counts.forward_flops_per_token == 2 * (12 * 12 * 768**2 + 50257 * 768) + 2 * 12 * 768 * 1025
    assert counts.training_flops_per_token == 3 * counts.forward_flops_per_token
    assert counts.training_bytes == 16 * 124_439_808


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False, "norm": "post"}, {"position_embedding": "rotary"}], ids=str)
def test_components_are_those_of_the_modules(tiny_config: Callable[..., ModelConfig], changes: dict[str, object]) -> None:
    """Parameters and memory by the modules' names, FLOPs by what a profiler sees in one forward pass over a whole context.

    The profiler counts every pair of positions, T · T of them, where the formula has the T · (T + 1) / 2 that are visible.
    """
    config = tiny_config(**changes)
    model, counts = GPTModel(config).eval(), count_model(config)
    places = {"token_embedding": "token embedding", "position_embedding": "position embedding", "attention.": "attention",
              "feed_forward.": "feed-forward", "norm": "layer norm", "head": "head"}  # fmt: skip
    found = dict.fromkeys(counts.parameters, 0)
    for name, tensor in model.exported_tensors().items():
        found[next(component for part, component in places.items() if part in name)] += tensor.numel()
    assert counts.parameters == found
    assert counts.training_memory == {name: 16 * number for name, number in found.items()}
    assert list(counts.forward_flops) == list(counts.parameters)
    assert counts.forward_flops_per_token == sum(counts.forward_flops.values())
    length = config.max_position_embeddings
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(torch.zeros(1, length, dtype=torch.long))
    hidden_pairs = 4 * config.n_layer * config.n_embd * (length * length - length * (length + 1) // 2)
    assert counter.get_total_flops() == length * counts.forward_flops_per_token + hidden_pairs
    assert counts.forward_flops["head"] == 2 * 61 * 24
    assert counts.forward_flops["feed-forward"] == 2 * 2 * 24 * 40 * 2
