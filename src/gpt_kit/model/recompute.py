"""What is cheap to compute again is not kept for the backward pass.

Autograd keeps every intermediate result. Some are large and cheap: attention weights, the outputs of GELU and LayerNorm, weights
rounded to bf16. Chen et al. 2016 ("Training deep nets with sublinear memory cost") drop such results and compute them a second time
when they are needed; the gradients are the same to the bit. torch stops that second computation at the last result it needs, so the
closing matrix product of a function is not among what is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Layer = Callable[[Tensor], Tensor]
WORTH_IT = 2**18  # elements of one window, whatever the rows; smaller ones keep everything, for setting this up takes its time too


def computed_again(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """function(*inputs), of which only the inputs are kept for the backward pass. Random numbers are the same the second time.

    In training on a CPU only: elsewhere kernels are fused, or torch.compile decides what to keep.
    """
    training = torch.is_grad_enabled() and inputs[0].device.type == "cpu" and not torch.compiler.is_compiling()
    if not training or inputs[0].numel() < WORTH_IT * len(inputs[0]):
        return function(*inputs)
    return checkpoint(function, *inputs, use_reentrant=False)  # type: ignore[no-any-return]


def unchanged(x: Tensor) -> Tensor:
    """x: no layer at all."""
    return x
