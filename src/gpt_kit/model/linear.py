"""A linear layer whose training on a CPU holds less and moves less.

It reads its input through a cheap layer before it, GELU or LayerNorm, and keeps only what that layer reads: the output is computed
again when the weight's gradient needs it (recompute.py says why). Under autocast torch would keep the rounded copy of each weight as
well; here the weight is rounded a second time, or its copy lies where its gradient will (room.py). The gradients are the same to the bit.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt_kit.model.recompute import Autocast, Layer, gradients, is_worth_it, trains_on_cpu, unchanged
from gpt_kit.model.room import put_gradient, rounded, rounded_before

SMALL = 2**18  # numbers of a weight whose copy is no burden, and whose product takes less time than arranging all this


class Linear(nn.Linear):
    """As `nn.Linear`, of before(x)."""

    def forward(self, x: Tensor, before: Layer = unchanged) -> Tensor:
        """(…, in) -> (…, out)"""
        return linear(x, self.weight, self.bias, before)


def linear_after(before: Layer, layer: nn.Module, x: Tensor) -> Tensor:
    """layer(before(x)) of a `Linear` or one that is adapted; of large windows in training, only x is kept."""
    output: Tensor = layer(x, before) if trains_on_cpu(x) and is_worth_it(x) else layer(before(x))
    return output


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, before: Layer = unchanged) -> Tensor:
    """before(x) · weightᵀ + bias. Gradients go to the parameters of `before` as well, if it is a module."""
    if not trains_on_cpu(x) or (before is unchanged and weight.numel() <= SMALL):
        return F.linear(before(x), weight, bias)
    parameters = before.parameters() if isinstance(before, nn.Module) else ()
    return _Linear.apply(before, x, weight, bias, *parameters)  # type: ignore[no-any-return,no-untyped-call]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, before: Layer, x: Tensor, weight: Tensor, bias: Tensor | None, *parameters: Tensor) -> Tensor:
        ctx.before, ctx.autocast = before, Autocast()
        read = before(x)
        dtype = ctx.autocast.dtype if ctx.autocast.enabled else read.dtype
        ctx.read_dtype, read = read.dtype, read.to(dtype)
        ctx.save_for_backward(read if before is unchanged else x, weight, *parameters)
        return F.linear(read, rounded(weight, dtype), None if bias is None else bias.to(dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *parameters = ctx.saved_tensors
        _, need_x, need_weight, need_bias, *need_others = ctx.needs_input_grad
        (grad,) = grads
        rows = grad.flatten(0, -2)
        read = x = x.detach().requires_grad_(need_x)
        if ctx.before is not unchanged:
            with torch.enable_grad(), ctx.autocast.again():
                read = ctx.before(x)
        grad_read = (grad @ rounded_before(weight, grad.dtype)).to(ctx.read_dtype) if need_x or any(need_others) else None
        # The weight's own gradient last, for it may take the place of what was multiplied with just now.
        grad_weight = put_gradient(rows.T, read.detach().to(grad.dtype).flatten(0, -2), weight) if need_weight else None
        grad_bias = rows.sum(dim=0).to(weight.dtype) if need_bias else None
        if ctx.before is unchanged or grad_read is None:
            return None, grad_read, grad_weight, grad_bias, *(None for _ in parameters)
        grad_x, *others = gradients(read, [x, *parameters], grad_read)
        return None, grad_x, grad_weight, grad_bias, *others
