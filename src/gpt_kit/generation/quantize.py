"""Linear layers in int8: a quarter of the memory to read for each token, which is what writing on a CPU waits for.

Weights are rounded once, each output channel by its own scale; the rows of the input at each call, each by its own, so that no row
is rounded to the size of those beside it (Dettmers et al. 2022, section 3.1: vector-wise quantization). Products and sums are of
whole numbers, by FBGEMM as torch ships it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from gpt_kit.errors import ConfigError

STEPS = 127  # of int8 on either side of zero
SMALLEST = 1e-12  # a row of zeros has no scale


def check_int8(device: torch.device) -> None:
    """Raises: ConfigError where int8 layers cannot be computed."""
    if device.type != "cpu" or "fbgemm" not in torch.backends.quantized.supported_engines:
        raise ConfigError(f"int8 needs an x86 CPU with FBGEMM; this is {device.type}. Leave it out")


def int8_linear(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """(out, in) weight and (out,) bias -> the function (…, in) -> (…, out) of both, in int8."""
    packed = _packed(weight)
    # Without VNNI the instructions add pairs of products in 16 bits, which overflows unless the input has one bit less.
    spare_a_bit = not torch.cpu._is_vnni_supported()

    def layer(x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).float()
        if len(rows) == 1:  # one row, one scale: FBGEMM's own
            out = torch.ops.quantized.linear_dynamic(rows, packed, spare_a_bit)
        else:
            scale = rows.abs().amax(dim=-1, keepdim=True).clamp_(min=SMALLEST)
            out = torch.ops.quantized.linear_dynamic(rows / scale, packed, spare_a_bit).mul_(scale)
        if bias is not None:
            out += bias
        return out.view(*x.shape[:-1], -1).to(x.dtype)  # type: ignore[no-any-return]

    return layer


def round_to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(out, in) -> int8 of the same shape and (out,) float32 scales."""
    weight = weight.detach().float()
    scales = weight.abs().amax(dim=1).clamp(min=SMALLEST) / STEPS
    return (weight / scales[:, None]).round_().to(torch.int8), scales


def _packed(weight: Tensor) -> object:
    whole, scales = round_to_int8(weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch means to drop its quantized tensors one day; packed weights are all that is used here
        zeros = torch.zeros(len(weight), dtype=torch.long)
        return torch.ops.quantized.linear_prepack(torch._make_per_channel_quantized_tensor(whole, scales.double(), zeros, 0), None)
