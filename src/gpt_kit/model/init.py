"""How a new model's weights are drawn (Radford et al. 2019, section 2.3)."""

from __future__ import annotations

import math

import torch
from torch import nn

from gpt_kit.config import ModelConfig


@torch.no_grad()
def initialize(model: nn.Module, config: ModelConfig) -> None:
    """Matrices from N(0, initializer_range), biases 0, LayerNorm the identity.

    Every block adds two projections to the residual stream, so those are drawn narrower by sqrt(2 · n_layer): the stream's
    variance at the end does not grow with depth.
    """
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif "norm" in name:
            parameter.fill_(1.0)
        else:
            residual = name.endswith(("projection.weight", "contract.weight"))
            std = config.initializer_range / math.sqrt(2 * config.n_layer) if residual else config.initializer_range
            parameter.normal_(0.0, std)
