"""Causal self-attention with several heads (Vaswani et al. 2017, section 3.2): softmax(Q Kᵀ / √D) V.

It stands here three times: `fused_attention` is what runs, `blocked_attention` what it leaves to matrix products where torch's kernel
is slow, and `written_out_attention` is the formula that both are tested against.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt_kit.config import ModelConfig
from gpt_kit.model.cache import KVCache
from gpt_kit.model.dropout import Dropout, drop
from gpt_kit.model.linear import Linear, linear_after
from gpt_kit.model.positions import rotate
from gpt_kit.model.recompute import Layer, computed_again, unchanged

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None, float], Tensor]
QUERIES_PER_BLOCK = 256


def fused_attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, dropout: float) -> Tensor:
    """One kernel; the (T, S) weights are never stored. No mask means plain causal, or one query that sees everything."""
    if q.device.type == "cpu" and (q.dtype is torch.bfloat16 or dropout):
        # The kernel does not use the processor's bf16 products: forward and backward of 4 windows of 512 tokens, 12 heads of 64, take
        # 85 ms in it (96 ms if brought to float32), and 34 ms in blocks. Their weights would be the largest thing that a layer keeps.
        # Nor does it know dropout.
        attend = partial(blocked_attention, visible=visible, dropout=dropout)
        return computed_again(attend, q, k, v)
    causal = visible is None and q.shape[2] > 1
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, dropout_p=dropout, is_causal=causal)


def blocked_attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, dropout: float) -> Tensor:
    """The written-out form, block by block of queries, each with the keys up to its end: little is computed that is masked anyway."""
    num_queries, earlier = q.shape[2], k.shape[2] - q.shape[2]
    flat_q, flat_k, flat_v = (x.flatten(0, 1) for x in (q, k, v))  # (B·H, …)
    mixed = []
    with torch.autocast(q.device.type, enabled=False):  # which would bring the softmax to float32: it is float32 inside anyway
        for start in range(0, num_queries, QUERIES_PER_BLOCK):
            stop = min(start + QUERIES_PER_BLOCK, num_queries)
            end = stop + earlier
            bias = torch.full((stop - start, end), -torch.inf, dtype=q.dtype, device=q.device)
            if visible is None:
                bias = bias.triu(start + earlier + 1)
            else:
                bias = bias.masked_fill(visible[:, :, start:stop, :end], 0)  # (B, 1, block, end)
                bias = bias[0] if len(bias) == 1 else bias.expand(*q.shape[:2], -1, -1).flatten(0, 1)  # one for all heads needs no copy
            scores = torch.baddbmm(bias, flat_q[:, start:stop], flat_k[:, :end].transpose(1, 2), alpha=1 / math.sqrt(q.shape[-1]))
            mixed.append(drop(scores.softmax(dim=-1), dropout) @ flat_v[:, :end])  # (B·H, block, D)
    return (torch.cat(mixed, dim=1) if len(mixed) > 1 else mixed[0]).view(q.shape)


def written_out_attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, dropout: float) -> Tensor:
    """The same, step by step. q (B, H, T, D), k and v (B, H, S, D), visible (B, 1, T, S) -> (B, H, T, D)"""
    num_queries, num_keys = q.shape[2], k.shape[2]
    if visible is None:
        visible = torch.ones(num_queries, num_keys, dtype=torch.bool, device=q.device).tril(num_keys - num_queries)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, T, S)
    weights = scores.masked_fill(~visible, -torch.inf).softmax(dim=-1)
    return drop(weights, dropout) @ v


class MultiHeadAttention(nn.Module):
    """Every token gathers from the tokens it may see, in H independent ways."""

    def __init__(self, config: ModelConfig, layer: int = 0) -> None:
        super().__init__()
        self.layer = layer  # its place in the cache
        self.n_head = config.n_head
        self.attention_dropout = config.attention_dropout
        self.qkv = Linear(config.n_embd, 3 * config.n_embd, bias=config.qkv_bias)
        self.projection = Linear(config.n_embd, config.n_embd)
        self.dropout = Dropout(config.residual_dropout)
        self.attend: Attend = fused_attention

    def forward(
        self,
        x: Tensor,
        visible: Tensor | None = None,
        rotary: tuple[Tensor, Tensor] | None = None,
        cache: KVCache | None = None,
        norm: Layer = unchanged,
    ) -> Tensor:
        """(B, T, C) -> (B, T, C), reading norm(x). `visible` is (B, 1, T, S), or None for plain causal attention."""
        batch, num_tokens, width = x.shape
        qkv = linear_after(norm, self.qkv, x)
        q, k, v = qkv.view(batch, num_tokens, 3, self.n_head, -1).permute(2, 0, 3, 1, 4)  # each (B, H, T, D)
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        if cache is not None:
            k, v = cache.append(self.layer, k, v)  # (B, H, S, D)
        mixed = self.attend(q, k, v, visible, self.attention_dropout if self.training else 0.0)
        output: Tensor = self.dropout(self.projection(mixed.transpose(1, 2).reshape(batch, num_tokens, width)))
        return output
