"""The decoder in int8, on a CPU with AVX-512 VNNI: what int8.c needs in memory, and the calls.

It takes the place of `Decoder` where there are the instructions and a C compiler: one call for a step instead of some three hundred,
one reading of the weights for all texts, keys and values in int8. A text gets the same tokens alone and among others, to the bit.
"""

from __future__ import annotations

import ctypes
import math
import mmap
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt_kit.generation.quantize import round_to_int8
from gpt_kit.model import GPTModel
from gpt_kit.model.adapted import weight_of
from gpt_kit.model.block import TransformerBlock
from gpt_kit.model.layers import LayerNorm
from gpt_kit.model.positions import rotary_tables
from gpt_kit.native import compiled_c

LANES, COLUMNS, CHANNELS = 16, 32, 32  # as in int8.c
INSTRUCTIONS = "-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma"
FLAGS = f"-O3 {INSTRUCTIONS} -fno-math-errno -fno-trapping-math -fopenmp".split()
ROWS_AT_ONCE = 256  # of a prompt
WIDEST_HEAD = 1024  # channels of which sums of 16-bit by 8-bit products fit 32 bits
POINTER, WHOLE = ctypes.c_void_p, ctypes.c_int64


def int8_kernel(head_width: int) -> ctypes.CDLL | None:
    """int8.c, ready to be called; None where instructions or a compiler are missing."""
    if not torch.cpu._is_vnni_supported() or head_width > WIDEST_HEAD:
        return None
    return compiled_c(Path(__file__).with_name("int8.c"), *FLAGS)


class _Linear(ctypes.Structure):
    _fields_ = [("weight", POINTER), ("sum", POINTER), ("scale", POINTER), ("bias", POINTER), ("inputs", WHOLE), ("outputs", WHOLE)]


class _Norm(ctypes.Structure):
    _fields_ = [("weight", POINTER), ("bias", POINTER), ("epsilon", ctypes.c_float)]


class _Block(ctypes.Structure):
    _fields_ = [
        *((name, _Norm) for name in ("attention_norm", "feed_forward_norm")),
        *((name, _Linear) for name in ("qkv", "projection", "expand", "contract")),
        *((name, POINTER) for name in ("keys", "values", "key_scales", "value_scales")),
    ]


class _Model(ctypes.Structure):
    _fields_ = [
        *((name, WHOLE) for name in ("n_layer", "n_embd", "n_inner", "n_head", "capacity", "pre_norm", "threads")),
        ("blocks", POINTER),
        ("head", _Linear),
        *((name, POINTER) for name in ("whole", "scale", "zero", "wide", "mixed", "scores")),
    ]


class _Rows(ctypes.Structure):
    _fields_ = [("count", WHOLE), *((name, POINTER) for name in ("slots", "positions", "cos", "sin"))]


class Int8Decoder:
    """As `Decoder`: a model and `slots` texts of up to `capacity` tokens, of which it keeps keys and values."""

    def __init__(self, model: GPTModel, slots: int, capacity: int, kernel: ctypes.CDLL) -> None:
        config = model.config
        self.model, self.config, self.capacity = model, config, capacity
        self._kernel = kernel
        self._kept: list[Tensor] = []  # what the structures point to
        lines = (config.n_layer, slots, config.n_head, _up(capacity, LANES) // LANES)  # of 16 tokens
        width = _up(config.head_width, CHANNELS)
        lanes = math.prod(lines) * LANES
        self._cache = [_on_large_pages(lanes * width).view(*lines, -1) for _ in ("keys", "values")]
        self._cache += [_on_large_pages(lanes * 4).view(torch.float32).view(*lines, -1) for _ in ("their scales", "and theirs")]
        blocks = [block for block in model.blocks if isinstance(block, TransformerBlock)]
        weights = [model.head_weight, *(weight_of(layer) for block in blocks for layer in _linear_layers(block))]
        self._free = _on_large_pages(sum(math.prod(_packed_shape(weight)) for weight in weights))
        self._blocks = (_Block * len(blocks))(*(self._block(block, layer) for layer, block in enumerate(blocks)))
        inner, width, lanes = config.inner_width, config.n_embd, _up(capacity, LANES)
        threads = torch.get_num_threads()
        room = (
            torch.zeros(ROWS_AT_ONCE, _up(max(inner, width), 64) + 64, dtype=torch.uint8),
            torch.zeros(ROWS_AT_ONCE),
            torch.zeros(ROWS_AT_ONCE, dtype=torch.int32),
            torch.zeros(ROWS_AT_ONCE, max(inner, 3 * width)),
            torch.zeros(ROWS_AT_ONCE, width),
            torch.zeros(threads, lanes),
        )
        sizes = config.n_layer, width, inner, config.n_head, lanes, config.norm == "pre", threads
        head = self._linear(model.head_weight, None)
        self._model = _Model(*sizes, ctypes.cast(self._blocks, POINTER), head, *(self._keep(each) for each in room))

    @torch.inference_mode()
    def read(self, slot: int, ids: Sequence[int], start: int) -> Tensor:
        """Text behind the `start` tokens that the slot already holds -> (T, C) hidden states."""
        return self._forward(ids, [slot] * len(ids), range(start, start + len(ids)))

    @torch.inference_mode()
    def step(self, slots: Sequence[int], tokens: Sequence[int], lengths: Sequence[int]) -> Tensor:
        """One further token for each of B slots, which hold `lengths` tokens -> (B, C) hidden states."""
        return self._forward(tokens, slots, lengths)

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """(N, C) -> (N, V) float32."""
        hidden, logits = hidden.float(), torch.empty(len(hidden), self.config.vocab_size)
        for start in range(0, len(hidden), ROWS_AT_ONCE):
            rows, out = (each[start : start + ROWS_AT_ONCE].contiguous() for each in (hidden, logits))
            self._kernel.run_head(ctypes.byref(self._model), WHOLE(len(rows)), POINTER(rows.data_ptr()), POINTER(out.data_ptr()))
        return logits

    def copy(self, source: int, target: int, length: int) -> None:
        """Let one slot hold the first `length` tokens of another."""
        lines = _up(length, LANES) // LANES
        for kept in self._cache:
            kept[:, target, :, :lines] = kept[:, source, :, :lines]

    def _forward(self, tokens: Sequence[int], slots: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Rows of token, slot and position -> (rows, C) hidden states."""
        where = torch.tensor([tokens, slots, positions])
        embedded = self.model.embed(where[0], where[2])
        x = embedded.float()
        turns: list[Tensor] = []
        if self.config.position_embedding == "rotary":
            turns = [table.flatten(0, -2).contiguous() for table in rotary_tables(where[2][:, None], self.config.head_width)]
        for start in range(0, len(x), ROWS_AT_ONCE):
            part = [each[start : start + ROWS_AT_ONCE] for each in (where[1], where[2], *turns, x)]
            *addresses, states = (each.data_ptr() for each in part)
            rows = _Rows(len(part[0]), *addresses)
            self._kernel.run_blocks(ctypes.byref(self._model), ctypes.byref(rows), POINTER(states))
        return self.model.final_norm(x.to(embedded.dtype))  # type: ignore[no-any-return]  # the module itself: a stop request waits at its door

    def _block(self, block: TransformerBlock, layer: int) -> _Block:
        linears = (self._linear(weight_of(layer), layer.bias) for layer in _linear_layers(block))
        norms = (self._norm(norm) for norm in (block.attention_norm, block.feed_forward_norm))
        return _Block(*norms, *linears, *(kept[layer].data_ptr() for kept in self._cache))

    def _norm(self, norm: LayerNorm) -> _Norm:
        return _Norm(self._keep(norm.weight.float()), self._keep(norm.bias.float()), norm.epsilon)

    def _linear(self, weight: Tensor, bias: Tensor | None) -> _Linear:
        """Tiles of 16 outputs by four inputs, zeros where they reach beyond."""
        outputs, inputs = weight.shape
        whole, scale = round_to_int8(weight)
        shape = tiles, groups, *_ = _packed_shape(weight)
        rows, columns = tiles * LANES, groups * 4
        packed, self._free = self._free[: math.prod(shape)], self._free[math.prod(shape) :]
        packed.view(shape).copy_(F.pad(whole, (0, columns - inputs, 0, rows - outputs)).view(tiles, LANES, groups, 4).permute(0, 2, 1, 3))
        sums = F.pad(whole.sum(dim=1, dtype=torch.int32), (0, rows - outputs))
        bias = torch.zeros(outputs) if bias is None else bias
        padded = (F.pad(each.detach().float(), (0, rows - outputs)) for each in (scale, bias))
        return _Linear(self._keep(packed), self._keep(sums), *(self._keep(each) for each in padded), columns, outputs)

    def _keep(self, tensor: Tensor) -> int:
        """Its address, for as long as this lives."""
        tensor = tensor.detach().contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()


def _linear_layers(block: TransformerBlock) -> tuple[nn.Linear, ...]:
    attention, feed_forward = block.attention, block.feed_forward
    return attention.qkv, attention.projection, feed_forward.expand, feed_forward.contract


def _packed_shape(weight: Tensor) -> tuple[int, int, int, int]:
    """(out, in) -> [out / 16][in / 4][16][4], both rounded up."""
    outputs, inputs = weight.shape
    return _up(outputs, COLUMNS) // LANES, _up(inputs, 4) // 4, LANES, 4


def _on_large_pages(size: int) -> Tensor:
    """Zeros (size,) int8 in memory of 2 MB pages, where the system has them: they are read half as fast again as small ones."""
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # what could be shared stays on small ones
        memory.madvise(mmap.MADV_HUGEPAGE)
    else:
        memory = mmap.mmap(-1, size)
    return torch.frombuffer(memory, dtype=torch.int8)


def _up(number: int, step: int) -> int:
    return (number + step - 1) // step * step
