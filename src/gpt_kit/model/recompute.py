"""What is cheap to compute again is not kept for the backward pass.

Autograd keeps every intermediate result. Some are large and cheap: attention weights, the outputs of GELU and LayerNorm, weights
rounded to bf16. Chen et al. 2016 ("Training deep nets with sublinear memory cost") drop such results and compute them a second time
when they are needed; the gradients are the same to the bit. (`torch.utils.checkpoint` does it too, and loads torch's compiler for it,
which takes 75 MB and a second.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

Layer = Callable[[Tensor], Tensor]
WORTH_IT = 2**18  # elements of one window, whatever the rows; smaller ones keep everything, for setting this up takes its time too
LONG = 384  # tokens; what shorter windows keep is little beside the weights


def computed_again(function: Callable[..., Tensor], *inputs: Tensor, parameters: Iterable[Tensor] = ()) -> Tensor:
    """function(*inputs), of which only the inputs are kept for the backward pass. Random numbers are the same the second time.

    `parameters` are those that the function reads beside its inputs. In training on a CPU only: elsewhere kernels are fused, or
    torch.compile decides what to keep.
    """
    if not trains_on_cpu(inputs[0]) or not is_worth_it(inputs[0]):
        return function(*inputs)
    return _ComputedAgain.apply(function, len(inputs), *inputs, *parameters)  # type: ignore[no-any-return,no-untyped-call]


def trains_on_cpu(x: Tensor) -> bool:
    """Whether a backward pass may follow that is ours to arrange."""
    return torch.is_grad_enabled() and x.device.type == "cpu" and not torch.compiler.is_compiling()


def is_worth_it(x: Tensor) -> bool:
    """Of an input (B, …, T, C)."""
    return x.numel() >= WORTH_IT * len(x) and x.shape[-2] >= LONG


def unchanged(x: Tensor) -> Tensor:
    """x: no layer at all."""
    return x


class Autocast:
    """How autocast stood on the CPU, to be so again."""

    def __init__(self) -> None:
        self.enabled, self.dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def again(self) -> torch.autocast:
        """The context."""
        return torch.autocast("cpu", self.dtype, enabled=self.enabled, cache_enabled=False)


def gradients(output: Tensor, inputs: Iterable[Tensor], gradient: Tensor) -> list[Tensor | None]:
    """Of those inputs that want one."""
    inputs = list(inputs)
    found = iter(torch.autograd.grad(output, [each for each in inputs if each.requires_grad], gradient))
    return [next(found) if each.requires_grad else None for each in inputs]


class _ComputedAgain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], number: int, *tensors: Tensor) -> Tensor:
        ctx.function, ctx.number, ctx.autocast, ctx.random = function, number, Autocast(), torch.get_rng_state()
        ctx.save_for_backward(*tensors)
        return function(*tensors[:number])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        inputs = [tensor.detach().requires_grad_(want) for tensor, want in zip(tensors[: ctx.number], wanted, strict=False)]
        now = torch.get_rng_state()
        torch.set_rng_state(ctx.random)
        with torch.enable_grad(), ctx.autocast.again():
            output = ctx.function(*inputs)
        torch.set_rng_state(now)
        return None, None, *gradients(output, [*inputs, *tensors[ctx.number :]], grads[0])
