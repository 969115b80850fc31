"""The decoder in int8, on a CPU with AVX-512 VNNI: weights and memory as int8.c needs them.

It takes the place of `Decoder` where there are the instructions and a C compiler: the whole pass in C, one reading of the weights for
all texts, keys and values in int8. A text gets the same tokens alone and among others, to the bit.
"""

from __future__ import annotations

import ctypes
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt_kit.generation.native_pass import FLAGS, LANES, LargePages, Linear, NativePass, round_up
from gpt_kit.generation.quantize import round_to_int8
from gpt_kit.model import GPTModel
from gpt_kit.native import compiled_c

KERNEL = Path(__file__).with_name("int8.c")
COLUMNS, INPUTS, CHANNELS = 32, 64, 32  # as in int8.c
AVX512 = "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mfma"
AMX = "-mamx-tile", "-mamx-int8"
WIDEST_HEAD = 1024  # channels of which sums of 16-bit by 8-bit products fit 32 bits


def int8_kernel(head_width: int) -> ctypes.CDLL | None:
    """int8.c, ready to be called; None where instructions or a compiler are missing."""
    if not torch.cpu._is_vnni_supported() or head_width > WIDEST_HEAD:
        return None
    flags = *FLAGS, *AVX512
    has_amx = torch.cpu._is_amx_tile_supported() and torch.cpu._init_amx()  # which asks the system for leave to use it
    return (compiled_c(KERNEL, *flags, *AMX) if has_amx else None) or compiled_c(KERNEL, *flags)


class Int8Decoder(NativePass):
    """As `Decoder`: a model and `slots` texts of up to `capacity` tokens, of which it keeps keys and values."""

    def __init__(self, model: GPTModel, slots: int, capacity: int, kernel: ctypes.CDLL) -> None:
        config, memory, self.capacity = model.config, LargePages(), capacity
        lines = config.n_layer, slots, config.n_head, round_up(capacity, LANES) // LANES  # of 16 tokens
        width = round_up(config.head_width, CHANNELS)
        self._cache = [memory.zeros(*lines, LANES * width, dtype=torch.int8) for _ in ("keys", "values")]
        self._cache += [memory.zeros(*lines, LANES, dtype=torch.float32) for _ in ("their scales", "and theirs")]
        super().__init__(
            kernel,
            model,
            cache=self._cache,
            capacity=round_up(capacity, LANES),
            make_linear=partial(_in_tiles, memory),
            inputs=torch.uint8,
            final_norm=model.final_norm,
        )

    def copy(self, source: int, target: int, length: int) -> None:
        """Let one slot hold the first `length` tokens of another."""
        lines = round_up(length, LANES) // LANES
        for kept in self._cache:
            kept[:, target, :, :lines] = kept[:, source, :, :lines]


def _in_tiles(memory: LargePages, weight: Tensor, bias: Tensor | None) -> Linear:
    """As int8.c reads it: of 16 outputs by four inputs, zeros where they reach beyond."""
    outputs, inputs = weight.shape
    whole, scale = round_to_int8(weight)
    rows, columns = round_up(outputs, COLUMNS), round_up(inputs, INPUTS)
    tiles = memory.zeros(rows // LANES, columns // 4, LANES, 4, dtype=torch.int8)
    tiles.copy_(F.pad(whole, (0, columns - inputs, 0, rows - outputs)).view(-1, LANES, columns // 4, 4).transpose(1, 2))
    sums = F.pad(whole.sum(dim=1, dtype=torch.int32), (0, rows - outputs))
    bias = torch.zeros(outputs) if bias is None else bias
    scale, bias = (F.pad(each.detach().float(), (0, rows - outputs)) for each in (scale, bias))
    return Linear(tiles, sums, scale, bias, columns, outputs)
