"""Causal self-attention with several heads (Vaswani et al. 2017, section 3.2): softmax(Q Kᵀ / √D) V.

It stands here twice: `fused_attention` is what runs, `written_out_attention` is the formula that it is tested against.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt_kit.config import ModelConfig
from gpt_kit.model.cache import KVCache
from gpt_kit.model.positions import rotate

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None, float], Tensor]
HAS_AMX = bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())  # the test is absent from some builds, where the answer is no


def fused_attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, dropout: float) -> Tensor:
    """One kernel; the (T, S) weights are never stored. No mask means plain causal, or one query that sees everything."""
    if q.device.type == "cpu" and q.dtype is torch.bfloat16 and not HAS_AMX:
        # Without AMX the fused kernel is up to four times slower in bf16 than in float32 (measured: 32 windows of 64 tokens).
        with torch.autocast("cpu", enabled=False):
            return fused_attention(q.float(), k.float(), v.float(), visible, dropout).to(q.dtype)
    causal = visible is None and q.shape[2] > 1
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, dropout_p=dropout, is_causal=causal)


def written_out_attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, dropout: float) -> Tensor:
    """The same, step by step. q (B, H, T, D), k and v (B, H, S, D), visible (B, 1, T, S) -> (B, H, T, D)"""
    num_queries, num_keys = q.shape[2], k.shape[2]
    if visible is None:
        visible = torch.ones(num_queries, num_keys, dtype=torch.bool, device=q.device).tril(num_keys - num_queries)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, T, S)
    weights = scores.masked_fill(~visible, -torch.inf).softmax(dim=-1)
    return F.dropout(weights, dropout) @ v


class MultiHeadAttention(nn.Module):
    """Every token gathers from the tokens it may see, in H independent ways."""

    def __init__(self, config: ModelConfig, layer: int = 0) -> None:
        super().__init__()
        self.layer = layer  # its place in the cache
        self.n_head = config.n_head
        self.attention_dropout = config.attention_dropout
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.qkv_bias)
        self.projection = nn.Linear(config.n_embd, config.n_embd)
        self.dropout = nn.Dropout(config.residual_dropout)
        self.attend: Attend = fused_attention

    def forward(
        self,
        x: Tensor,
        visible: Tensor | None = None,
        rotary: tuple[Tensor, Tensor] | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """(B, T, C) -> (B, T, C). `visible` is (B, 1, T, S), or None for plain causal attention."""
        batch, num_tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, num_tokens, 3, self.n_head, -1).permute(2, 0, 3, 1, 4)  # each (B, H, T, D)
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        if cache is not None:
            k, v = cache.append(self.layer, k, v)  # (B, H, S, D)
        mixed = self.attend(q, k, v, visible, self.attention_dropout if self.training else 0.0)
        output: Tensor = self.dropout(self.projection(mixed.transpose(1, 2).reshape(batch, num_tokens, width)))
        return output
