"""The small layers: LayerNorm, GELU and the feed-forward network between attentions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt_kit.config import ModelConfig
from gpt_kit.model.dropout import Dropout
from gpt_kit.model.linear import Linear, linear_after
from gpt_kit.model.recompute import Layer, unchanged


class LayerNorm(nn.Module):
    """y = (x - mean) / sqrt(variance + epsilon) * weight + bias, over the last axis (Ba et al. 2016, section 3)."""

    def __init__(self, width: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(…, C) -> (…, C)"""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


class GELU(nn.Module):
    """x · Φ(x) by the tanh form that GPT-1 and GPT-2 were trained with (Hendrycks & Gimpel 2016, section 2).

    The exact (erf) form trains as well, and is wrong for published weights.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return F.gelu(x, approximate="tanh")


class FeedForward(nn.Module):
    """Each token on its own: widen, bend, narrow (Vaswani et al. 2017, section 3.3)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.expand = Linear(config.n_embd, config.inner_width)
        self.activation = GELU()
        self.contract = Linear(config.inner_width, config.n_embd)
        self.dropout = Dropout(config.residual_dropout)

    def forward(self, x: Tensor, norm: Layer = unchanged) -> Tensor:
        """(B, T, C) -> (B, T, C), reading norm(x)."""
        wide = linear_after(norm, self.expand, x)
        output: Tensor = self.dropout(linear_after(self.activation, self.contract, wide))
        return output
