"""AdamW whose running means take eight bits a number instead of thirty-two.

Of a model's memory in training, weights are a quarter, gradients another, and AdamW's means of the gradient and of its square are half.
Both are estimates, known to some percent at best, and keep their use in eight bits (Dettmers et al. 2022, "8-bit Optimizers via
Block-wise Quantization"; FP8-LM, Peng et al. 2023, section 2.2). Here a number is kept as a small float: the three highest bits of its
mantissa, and an exponent counted from that of the largest of its 256 neighbours. Means have a sign and reach down to 2^-16 of that
largest, squares to 2^-32. The update itself is float32, from means that are not rounded yet; what is stored is rounded up or down by
chance, right on average, for a step changes a mean of squares by less than its last bit. With one seed it is the same every time.

adamw_8bit.c does all of it in one pass, on a CPU with AVX-512 and a C compiler; elsewhere the same goes in some thirty torch operations.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt_kit.model.room import GradientRoom
from gpt_kit.native import compiled_c

BLOCK, NUMBERS_PER_SUM, CUT, SMALLEST_EXPONENT = 256, 65536, 20, 33  # as in adamw_8bit.c
FLAGS = "-O3 -mavx512f -mfma -fno-math-errno -fopenmp".split()
BLOCKS_AT_ONCE = 2**14  # in torch: its temporary tensors are 16 MB each
POINTER, WHOLE = ctypes.c_void_p, ctypes.c_int64


class _Update(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_float) for name in "rate kept beta1 share beta2 square_share square_scale epsilon".split()),
        ("seed", ctypes.c_uint32),
    ]


def is_fast(device: torch.device) -> bool:
    """Whether it takes less time than torch's AdamW there, and not several times as much."""
    return _kernel(device) is not None


@cache
def _kernel(device: torch.device) -> ctypes.CDLL | None:
    fits = device.type == "cpu" and torch.cpu._is_avx512_supported()
    return compiled_c(Path(__file__).with_suffix(".c"), *FLAGS) if fits else None


class AdamW8bit:
    """As `torch.optim.AdamW`, for float32 parameters with gradients in float32 or bf16.

    Not a `torch.optim.Optimizer`, of which the first loads torch's compiler: 75 MB, and a second.
    """

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        room: GradientRoom | None = None,
        eps: float = 1e-8,
        seed: int = 0,
    ) -> None:
        """`room`: for gradients that are wanted in bf16."""
        self.param_groups = [{"lr": lr, "betas": betas, "eps": eps, **group} for group in groups]
        self.state = {parameter: _new_state(parameter) for group in self.param_groups for parameter in group["params"]}
        self.gradient_scale = 1.0
        """What gradients are multiplied by as they are read: clipping, without a pass of its own."""
        self._room, self._seed = room, seed

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.state:
            parameter.grad = None

    def set_gradient_format(self, rounded: bool) -> None:
        """Ask for the gradients of matrices in bf16, or in the format of the weights; there must be none now."""
        for parameter in self.state:
            parameter.grad_dtype = torch.bfloat16 if rounded and parameter.ndim >= 2 else parameter.dtype
        if self._room and not rounded:
            self._room.clear()

    def clip_gradients(self, max_norm: float) -> Tensor:
        """Let the next step scale gradients down to `max_norm`, if that is above 0; gives the norm before."""
        norm = torch.cat([_sums_of_squares(parameter.grad) for parameter in self.state if parameter.grad is not None]).sum().sqrt().float()
        self.gradient_scale = min(1.0, (max_norm or math.inf) / (norm.item() + 1e-6))  # as torch's clip_grad_norm_
        return norm

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        groups = [group for group in self.param_groups for _ in group["params"]]
        for number, (parameter, state) in enumerate(self.state.items()):
            if parameter.grad is not None:
                state["step"] += 1
                self._update(parameter, state, groups[number], number)

    def _update(self, parameter: nn.Parameter, state: dict[str, Tensor], group: dict[str, Any], number: int) -> None:
        step, (beta1, beta2) = int(state["step"]), group["betas"]
        update = _Update(
            rate=group["lr"] / (1 - beta1**step),
            kept=1 - group["lr"] * group["weight_decay"],
            beta1=beta1,
            share=(1 - beta1) * self.gradient_scale,
            beta2=beta2,
            square_share=(1 - beta2) * self.gradient_scale**2,
            square_scale=1 / math.sqrt(1 - beta2**step),
            epsilon=group["eps"],
            seed=(self._seed + step * 1_000_003 + number * 7919) % 2**32,
        )
        assert parameter.grad is not None and parameter.is_contiguous()
        gradient = parameter.grad.contiguous()
        if kernel := _kernel(parameter.device):
            addresses = [POINTER(state[name].data_ptr()) for name in ("exp_avg", "exp_avg_sq", "exponents")]
            weight, count = POINTER(parameter.data_ptr()), WHOLE(parameter.numel())
            kernel.update(weight, *_addresses(gradient), *addresses, count, ctypes.byref(update))
        else:
            _update_in_torch(parameter, gradient, state, update)


def _new_state(parameter: nn.Parameter) -> dict[str, Tensor]:
    codes = {name: torch.zeros(parameter.shape, dtype=torch.uint8, device=parameter.device) for name in ("exp_avg", "exp_avg_sq")}
    exponents = codes["exp_avg"].new_full((-(-parameter.numel() // BLOCK), 2), SMALLEST_EXPONENT)
    return {"step": torch.zeros(()), **codes, "exponents": exponents}


def _sums_of_squares(gradient: Tensor) -> Tensor:
    """Of parts of it: float64."""
    kernel = _kernel(gradient.device)
    if kernel is None:
        return gradient.double().square().sum()[None]
    gradient = gradient.contiguous()
    sums = torch.empty(-(-gradient.numel() // NUMBERS_PER_SUM), dtype=torch.float64)
    kernel.sum_squares(*_addresses(gradient), WHOLE(gradient.numel()), POINTER(sums.data_ptr()))
    return sums


def _addresses(gradient: Tensor) -> tuple[ctypes.c_void_p, ctypes.c_void_p]:
    """Of float32 and of bf16 numbers, one of them nothing."""
    address, nothing = POINTER(gradient.data_ptr()), POINTER(None)
    return (nothing, address) if gradient.dtype is torch.bfloat16 else (address, nothing)


def _update_in_torch(parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], update: _Update) -> None:
    """The same as adamw_8bit.c, but for the random bits."""
    generator = torch.Generator(parameter.device).manual_seed(update.seed)
    flat = [each.view(-1) for each in (parameter, gradient, state["exp_avg"], state["exp_avg_sq"])]
    for first in range(0, len(state["exponents"]), BLOCKS_AT_ONCE):
        exponents = state["exponents"][first : first + BLOCKS_AT_ONCE]
        parts = [each[first * BLOCK : (first + BLOCKS_AT_ONCE) * BLOCK] for each in flat]
        count = len(parts[0])
        weight, g, codes, codes2 = (F.pad(part, (0, -count % BLOCK)).view(-1, BLOCK) for part in parts)
        means, squares = decoded(codes, codes2, exponents)
        g = g.float()
        means = means * update.beta1 + g * update.share
        squares = squares * update.beta2 + g * g * update.square_share
        weight = weight * update.kept - update.rate * means / (squares.sqrt() * update.square_scale + update.epsilon)
        for target, source in zip((parts[0], *parts[2:], exponents), (weight, *encoded(means, squares, generator)), strict=True):
            target.copy_(source.view(-1)[:count] if target.ndim == 1 else source)


def decoded(mean_codes: Tensor, square_codes: Tensor, exponents: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (N, 256) and exponents (N, 2), all uint8 -> means and squares (N, 256), float32."""
    mean_base, square_base = _bases(exponents)
    codes, codes2 = mean_codes.int(), square_codes.int()
    size = codes & 127
    means = torch.where(size > 0, (size + mean_base) << CUT, 0).view(torch.float32)
    return torch.where(codes > 127, -means, means), ((codes2 + square_base) << CUT).view(torch.float32)


def encoded(means: Tensor, squares: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """What `decoded` takes, rounded by chance."""
    sizes = means.abs()
    largest = torch.stack([each.view(torch.int32).amax(dim=1) for each in (sizes, squares)], dim=1)
    exponents = ((largest + 2**CUT - 1) >> 23).clamp(min=SMALLEST_EXPONENT)  # even if it is rounded up
    mean_base, square_base = _bases(exponents)
    first, second = (
        torch.randint(2**CUT, means.shape, dtype=torch.int32, device=means.device, generator=generator) for _ in ("mean", "square")
    )
    lowest = ((mean_base + 1) << CUT).view(torch.float32)
    codes = (((sizes.view(torch.int32) + first) >> CUT) - mean_base).clamp(max=127)
    codes = torch.where(sizes < lowest, (sizes > first * (lowest / 2**CUT)).int(), codes) + 128 * means.signbit()
    codes2 = (((squares.view(torch.int32) + second) >> CUT) - square_base).clamp(1, 255)
    return codes.to(torch.uint8), codes2.to(torch.uint8), exponents.to(torch.uint8)


def _bases(exponents: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 2) -> (N, 1) twice: what codes lack to be the tops of their numbers."""
    wide = 8 * exponents.int()
    return wide[:, :1] - 120, wide[:, 1:] - 248
