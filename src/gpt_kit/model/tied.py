"""One matrix as embedding and head, and one gradient for both.

Autograd would make two gradients of shape (V, C) and add them: 154 MB each for GPT-2 small, nearly all of the second one zeros. Here
the head's gradient waits until the backward pass reaches the embedding, which adds the rows that were read.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TiedGradient:
    """Where the head's gradient waits in one backward pass."""

    waiting: Tensor | None = None


def tied_gradient(embedding: nn.Module) -> TiedGradient | None:
    """A place to wait, where it pays: on a CPU, for a plain embedding that is trained. (Elsewhere torch's own sum is deterministic.)"""
    pays = type(embedding) is nn.Embedding and embedding.weight.device.type == "cpu" and embedding.weight.requires_grad
    return TiedGradient() if pays and torch.is_grad_enabled() else None


def embed_tied(token_ids: Tensor, weight: Tensor, tied: TiedGradient) -> Tensor:
    """(B, T) ids -> (B, T, C) rows of `weight` (V, C)."""
    return _TiedEmbedding.apply(token_ids, weight, tied)  # type: ignore[no-any-return,no-untyped-call]


class _TiedEmbedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, token_ids: Tensor, weight: Tensor, tied: TiedGradient) -> Tensor:
        ctx.save_for_backward(token_ids)
        ctx.tied, ctx.like = tied, weight.detach()
        return F.embedding(token_ids, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        (token_ids,) = ctx.saved_tensors
        total, ctx.tied.waiting = ctx.tied.waiting, None
        total = torch.zeros_like(ctx.like) if total is None else total
        ids, grad = token_ids.flatten(), grads[0].flatten(0, -2).to(ctx.like.dtype)
        if total.dtype == grad.dtype:
            return None, total.index_add_(0, ids, grad), None
        rows, places = ids.unique(return_inverse=True)  # a frequent token's many gradients are not added up in bf16
        total[rows] = total[rows].to(grad.dtype).index_add_(0, places, grad).to(total.dtype)
        return None, total, None
