"""Dropout (Srivastava et al. 2014): in training each number is zero with probability p, and the others are divided by 1 - p.

On a CPU torch takes 4 to 6 ns a number for it, and keeps which ones it were for the backward pass. Here a call draws one number of
torch's generator, the seed; from that and a number's place 16 bits are hashed, forward and once more backward, so that nothing is kept.
dropout.c takes 0.1 ns a number; where there is no C compiler, numpy's SFC64 draws the bits, in a ns or two. p is met to 1 / 65,536, and
whoever restores torch's random state gets the same zeros again.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt_kit.native import compiled_c

LEVELS = 2**16
DRAWN_AT_ONCE = 2**15  # by numpy: stays in the cache, and is too little to ask the system for huge pages, which can take seconds
FLAGS = "-O3 -march=native -fopenmp".split()
KERNELS = {torch.bfloat16: "drop_bf16", torch.float32: "drop_float"}


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
    return _Drop.apply(x, p)  # type: ignore[no-any-return,no-untyped-call]


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        ctx.seed, ctx.p = torch.randint(2**63 - 1, ()), p
        return torch.ops.gpt_kit.drop(x, p, ctx.seed)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return torch.ops.gpt_kit.drop(grads[0], ctx.p, ctx.seed), None


def _drop(x: Tensor, p: float, seed: Tensor) -> Tensor:
    x = x.contiguous()
    kernels = compiled_c(Path(__file__).with_suffix(".c"), *FLAGS) if x.dtype in KERNELS else None
    if kernels is None:
        return x * _keep(x, p, seed) / (1 - p)
    y = torch.empty_like(x)
    addresses = (ctypes.c_void_p(each.data_ptr()) for each in (x, y))
    settings = ctypes.c_uint32(round(p * LEVELS)), ctypes.c_float(1 / (1 - p)), ctypes.c_uint64(int(seed))
    getattr(kernels, KERNELS[x.dtype])(*addresses, ctypes.c_int64(x.numel()), *settings)
    return y


def _keep(x: Tensor, p: float, seed: Tensor) -> Tensor:
    """A bool tensor of the shape of `x`, False with probability p."""
    generator = np.random.SFC64(int(seed))
    drawn = torch.empty(-(-x.numel() // 4), dtype=torch.int64)  # four numbers of 64 bits
    for part in drawn.split(DRAWN_AT_ONCE):  # type: ignore[no-untyped-call]
        part.numpy()[:] = generator.random_raw(len(part)).view(np.int64)
    return (drawn.view(torch.int16)[: x.numel()] >= round(p * LEVELS) - LEVELS // 2).view(x.shape)


# An operation of torch's, so that it can be counted on tensors without data (training/memory_probe.py).
_library = torch.library.Library("gpt_kit", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define("drop(Tensor x, float p, Tensor seed) -> Tensor")  # type: ignore[no-untyped-call]
_library.impl("drop", _drop, "CPU")  # type: ignore[no-untyped-call]
torch.library.register_fake("gpt_kit::drop", lambda x, *_: torch.empty_like(x), lib=_library)
