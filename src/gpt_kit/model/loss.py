"""Cross-entropy of the output head, without ever holding all logits.

(B·T, V) logits are the largest tensor of a small GPT: 2,048 tokens of GPT-2 make 412 MB in float32, and their gradient as much
again. Here the head and the loss are one operation over blocks of rows. Each block's gradient is known as soon as its loss is
(softmax minus the one-hot target), so it is taken at once and the block is thrown away: three matrix products, as without
blocks, and nothing computed twice. The idea is that of Hsu et al. 2024 (Liger Kernel), section 3.2.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt_kit.model.room import free_place
from gpt_kit.model.tied import TiedGradient

IGNORE_INDEX = -100  # a target that is not scored; the number that torch and transformers use
ROWS_PER_BLOCK = 256  # measured on two CPU cores with V = 50,257: 256 to 1,024 rows are equally fast
ROWS_IN_CACHE = 16  # of float32 logits, 3 MB at V = 50,257: they stay in a CPU's cache from one operation to the next
COLUMNS_IN_CACHE = 4096  # of the head's gradient; torch brings a whole bf16 product to float32 before it adds it


def linear_cross_entropy_sum(
    hidden: Tensor, weight: Tensor, targets: Tensor, vocab_size: int | None = None, tied: TiedGradient | None = None
) -> Tensor:
    """Sum over scored targets of -log softmax(hidden · weightᵀ)[target], in nats: a float32 scalar.

    `hidden` (…, C), `weight` (V, C), `targets` (…) with IGNORE_INDEX where nothing is scored. Rows of `weight` from `vocab_size` on
    only pad the product: they get no probability and no gradient. Gradients go to hidden and weight, once: a second backward pass
    raises RuntimeError. The sum of no scored target is 0, with zero gradients. With `tied`, weight's gradient waits there for the
    embedding's.
    """
    rows, scored = hidden.flatten(0, -2), targets.flatten()
    if rows.device.type == "cpu" and not (kept := scored != IGNORE_INDEX).all():  # elsewhere, counting them would wait for the device
        rows, scored = rows[kept], scored[kept]  # of an instruction's tokens often half are read only
    size = len(weight) if vocab_size is None else vocab_size
    return _LinearCrossEntropySum.apply(rows, weight, scored, size, torch.is_grad_enabled(), tied)  # type: ignore[no-any-return,no-untyped-call]


class _LinearCrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, vocab_size: int, training: bool, tied: TiedGradient | None
    ) -> Tensor:
        device = hidden.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else hidden.dtype
        # Gradients are taken before the loss scale reaches them, so fp16 would lose the small ones to underflow.
        gradient_dtype = torch.float32 if dtype is torch.float16 else dtype
        with torch.autocast(device, enabled=False):
            need_hidden, need_weight = ctx.needs_input_grad[:2]
            # First, for it outlives the rest: what is freed above it joins the free end of the heap, where the next large gradient fits.
            one_block = tied is not None and training and len(targets) <= ROWS_PER_BLOCK
            place = free_place(weight, dtype) if one_block else None  # several blocks are added up, for which bf16 is too coarse
            grad_weight = torch.zeros_like(weight) if need_weight and training and place is None else None
            compute_hidden, compute_weight = hidden.to(dtype), weight.to(dtype) if place is None else place.copy_(weight)
            gradient_hidden, gradient_weight = compute_hidden.to(gradient_dtype), compute_weight.to(gradient_dtype)
            grad_hidden = torch.empty_like(gradient_hidden) if need_hidden and training else None
            loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
            for start in range(0, len(targets), ROWS_PER_BLOCK):
                rows = slice(start, start + ROWS_PER_BLOCK)
                logits = F.linear(compute_hidden[rows], compute_weight).to(gradient_dtype)  # (rows, V)
                logits[:, vocab_size:] = -torch.inf
                loss += _loss_then_gradient_(logits, targets[rows])
                if grad_hidden is not None:
                    torch.mm(logits, gradient_weight, out=grad_hidden[rows])
                if grad_weight is not None:
                    _add_product_(grad_weight, logits.T, gradient_hidden[rows])
                if place is not None:
                    grad_weight = torch.mm(logits.T, gradient_hidden, out=place)  # instead of the weight, which has been multiplied with
                del logits  # before the next block's are there
        ctx.gradients = grad_hidden, grad_weight
        ctx.dtypes, ctx.tied = (hidden.dtype, weight.dtype if place is None else dtype), tied
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        (scale,) = grads
        if ctx.gradients is None:
            raise RuntimeError("the gradients of this loss were already taken, and are kept only once. Compute the loss again")
        scaled = [
            None if gradient is None else gradient.to(dtype).mul_(scale) if gradient.dtype == dtype else gradient.to(dtype) * scale
            for gradient, dtype in zip(ctx.gradients, ctx.dtypes, strict=True)
        ]
        ctx.gradients = None  # they were scaled in place
        if ctx.tied is not None:
            ctx.tied.waiting, scaled[1] = scaled[1], None
        return scaled[0], scaled[1], None, None, None, None


def _loss_then_gradient_(logits: Tensor, targets: Tensor) -> Tensor:
    """The loss of some rows; their logits (rows, V) become its gradient, softmax minus the one-hot target, in place.

    float32 throughout, on a CPU a few rows at a time, that stay in its cache. Rows that are not scored become zero.
    """
    loss = torch.zeros((), dtype=torch.float32, device=logits.device)
    step = ROWS_IN_CACHE if logits.device.type == "cpu" else len(logits)
    for part, aims in zip(logits.split(step), targets.split(step), strict=True):  # type: ignore[no-untyped-call]
        scored, columns = aims != IGNORE_INDEX, aims.clamp(min=0)[:, None]
        precise = part.float()
        probabilities = precise.softmax(dim=-1)
        # log-sum-exp without another pass of exponentials: the most probable token's logit less the log of its probability.
        log_sum = precise.amax(dim=-1) - probabilities.amax(dim=-1).log()
        loss += torch.where(scored, log_sum - precise.gather(1, columns)[:, 0], 0).sum()
        probabilities.scatter_add_(1, columns, torch.full_like(columns, -1, dtype=probabilities.dtype))
        part.copy_(probabilities.mul_(scored[:, None]))
    return loss


def _add_product_(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, some rows at a time."""
    for part, factor in zip(total.split(COLUMNS_IN_CACHE), left.split(COLUMNS_IN_CACHE), strict=True):  # type: ignore[no-untyped-call]
        if part.dtype == right.dtype:
            part.addmm_(factor, right)
        else:
            part += factor @ right
