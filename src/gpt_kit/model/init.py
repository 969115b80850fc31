"""How a new model's weights are drawn (Radford et al. 2018, section 4.1; 2019, section 2.3)."""

from __future__ import annotations

import math

import torch
from torch import nn

from gpt_kit.config import ModelConfig


def new_embedding(rows: int, width: int) -> nn.Embedding:
    """`nn.Embedding`, but on the meta device nothing is drawn: torch would load modules for it, for a second, to no effect."""
    weight = torch.empty(rows, width)
    if weight.is_meta:
        return nn.Embedding.from_pretrained(weight, freeze=False)  # type: ignore[no-any-return,no-untyped-call]
    return nn.Embedding(rows, width)


@torch.no_grad()
def initialize(model: nn.Module, config: ModelConfig) -> None:
    """Matrices from N(0, initializer_range), biases 0, LayerNorm the identity; nothing on the meta device.

    Every block adds two projections to the residual stream. GPT-2 draws those narrower by sqrt(2 · n_layer), so that the stream's
    variance at the end does not grow with depth. GPT-1 normalises the stream itself after every sum (post-norm), found N(0, 0.02)
    "sufficient" for all matrices, and is drawn so here.
    """
    if next(model.parameters()).is_meta:
        return
    narrower = math.sqrt(2 * config.n_layer) if config.norm == "pre" else 1.0
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif "norm" in name:
            parameter.fill_(1.0)
        else:
            residual = name.endswith(("projection.weight", "contract.weight"))
            parameter.normal_(0.0, config.initializer_range / (narrower if residual else 1.0))
