"""Freezing by pattern: exactly the parameters whose names fit stay as they were, and the counts say so."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from gpt_kit.config import LoraConfig, ModelConfig, create_model_config
from gpt_kit.errors import ConfigError
from gpt_kit.finetuning import add_lora, count_parameters, freeze, trainable_summary
from gpt_kit.model import GPTModel, count_model

IDS = torch.randint(0, 61, (3, 7), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    ("patterns", "frozen"),
    [
        (["token_embedding*"], lambda name: name == "token_embedding.weight"),
        (["blocks.[0-9].*"], lambda name: name.startswith("blocks.")),
        (["blocks.0.*", "*norm*"], lambda name: name.startswith("blocks.0.") or "norm" in name),
        (["*.bias"], lambda name: name.endswith("bias")),
    ],
)
def test_what_fits_a_pattern_stays_as_it_was_and_the_rest_learns(
    tiny_config: Callable[..., ModelConfig], patterns: list[str], frozen: Callable[[str], bool]
) -> None:
    """A tied head is frozen with its embedding."""
    model = GPTModel(tiny_config())
    report = freeze(model, patterns)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model.loss_sum(IDS, IDS).backward()
    optimizer.step()
    unmoved = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
    assert unmoved == set(report.names) == {name for name in before if frozen(name)}
    assert report.frozen_parameters == sum(before[name].numel() for name in unmoved)
    assert report.frozen_parameters + report.trained_parameters == count_model(model.config).total_parameters


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("token_embeding.*", r"did you mean 'token_embedding\.\*'"),
        ("block.0.*", r"did you mean 'blocks\.0\.\*'"),
        ("head.*", "head is its token embedding"),
        ("*", "leaves nothing to train"),
    ],
)
def test_a_pattern_that_fits_nothing_or_everything_is_refused(tiny_config: Callable[..., ModelConfig], pattern: str, words: str) -> None:
    model = GPTModel(tiny_config())
    with pytest.raises(ConfigError, match=words):
        freeze(model, ["*norm*", pattern])
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("tied", [True, False])
def test_counts_leave_out_what_pads_the_vocabulary(tiny_config: Callable[..., ModelConfig], tied: bool) -> None:
    config = tiny_config(vocab_multiple=64, tie_word_embeddings=tied)
    model = GPTModel(config)
    total = count_model(config).total_parameters
    assert count_parameters(model) == (total, total)
    add_lora(model, LoraConfig(rank=3, targets=("token_embedding",) if tied else ("token_embedding", "head")))
    trained = 3 * (61 + 24) * (1 if tied else 2)
    assert count_parameters(model) == (trained, total + trained)


def test_the_summary_of_gpt2_small_with_rank_8() -> None:
    """8 · 12 · ((768 + 2304) + (768 + 768) + 2 · (768 + 3072)) = 1,179,648, beside GPT-2's 124,439,808."""
    with torch.device("meta"):
        model = GPTModel(create_model_config("gpt2"))
        assert trainable_summary(model) == "trains 124,439,808 of 124,439,808 parameters (100.00%)"
        add_lora(model, LoraConfig(rank=8))
    assert trainable_summary(model) == (
        "trains 1,179,648 of 125,619,456 parameters (0.94%): 14.2 MB for gradients and AdamW instead of 1,493.3 MB"
    )
