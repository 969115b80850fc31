"""Dropout (Srivastava et al. 2014): in training each number is zero with probability p, and the others are divided by 1 - p.

torch takes 4 to 6 ns a number for it on a CPU. Here one number of torch's generator seeds a faster one (SFC64) that gives 16 bits to each
number, which takes a third to a quarter of the time: p is met to 1 / 65,536, and whoever restores torch's random state gets the same
zeros again.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 2**16
DRAWN_AT_ONCE = 2**15  # stays in the cache, and is too little for numpy to ask the system for huge pages, which can take seconds


class Dropout(nn.Module):
    """As `nn.Dropout`."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; in evaluation `x` itself."""
        return drop(x, self.p) if self.training else x


def drop(x: Tensor, p: float) -> Tensor:
    """`x` with some numbers zero and the rest larger, in training; p from 0 to below 1."""
    if p == 0:
        return x
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, p)
    return x * _keep(x.shape, p).to(x.dtype).mul_(1 / (1 - p))


def _keep(shape: torch.Size, p: float) -> Tensor:
    """A bool tensor, False with probability p."""
    size = shape.numel()
    drawn: Tensor = torch.ops.gpt_kit.random_bits(-(-size // 4))  # four numbers of 64 bits
    return (drawn.view(torch.int16)[:size] >= round(p * LEVELS) - LEVELS // 2).view(shape)


# An operation of torch's, for numpy cannot write into tensors without data, on which memory is counted (training/memory_probe.py).
@torch.library.custom_op("gpt_kit::random_bits", mutates_args=(), schema="(int numbers) -> Tensor")
def _random_bits(numbers: int) -> Tensor:
    generator = np.random.SFC64(int(torch.randint(2**63 - 1, ())))
    drawn = torch.empty(numbers, dtype=torch.int64)
    for part in drawn.split(DRAWN_AT_ONCE):  # type: ignore[no-untyped-call]
        part.numpy()[:] = generator.random_raw(len(part)).view(np.int64)
    return drawn


@_random_bits.register_fake
def _(numbers: int) -> Tensor:
    return torch.empty(numbers, dtype=torch.int64)
