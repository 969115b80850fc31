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

from gpt_kit.generation.decoder import Part
from gpt_kit.generation.quantize import round_to_int8
from gpt_kit.model import GPTModel
from gpt_kit.model.adapted import weight_of
from gpt_kit.model.block import TransformerBlock
from gpt_kit.model.layers import LayerNorm
from gpt_kit.model.positions import rotary_tables, sinusoids
from gpt_kit.native import compiled_c

LANES, COLUMNS, CHANNELS = 16, 32, 32  # as in int8.c
INSTRUCTIONS = "-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma"
FLAGS = f"-O3 {INSTRUCTIONS} -fno-math-errno -fno-trapping-math -fopenmp".split()
ROWS_AT_ONCE = 256  # as in int8.c
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
        *((name, POINTER) for name in ("token_embedding", "position_embedding", "cos", "sin", "blocks")),
        ("final_norm", _Norm),
        ("head", _Linear),
        ("embedding_scale", ctypes.c_float),
        *((name, POINTER) for name in ("whole", "scale", "zero", "wide", "mixed", "scores")),
    ]


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
        norm = self._norm(model.final_norm) if isinstance(model.final_norm, LayerNorm) else _Norm()
        self._model = _Model(
            *sizes,
            self._keep(weight_of(model.token_embedding).float()),
            *(None if table is None else self._keep(table.float()) for table in _position_tables(model)),
            ctypes.cast(self._blocks, POINTER),
            norm,
            self._linear(model.head_weight, None),
            math.sqrt(width) if config.scale_embeddings else 1,
            *(self._keep(each) for each in room),
        )

    def read(self, parts: Sequence[Part]) -> Tensor:
        """Parts of texts -> (T of all, C) hidden states, float32, in their order."""
        tokens = [token for part in parts for token in part.ids]
        slots = [part.slot for part in parts for _ in part.ids]
        positions = [position for part in parts for position in range(part.start, part.start + len(part.ids))]
        hidden = torch.empty(len(tokens), self.config.n_embd)
        numbers = ((WHOLE * len(tokens))(*each) for each in (tokens, slots, positions))
        self._kernel.read_tokens(ctypes.byref(self._model), WHOLE(len(tokens)), *numbers, POINTER(hidden.data_ptr()))
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """(N, C) -> (N, V) float32."""
        hidden, logits = hidden.contiguous(), torch.empty(len(hidden), self.config.vocab_size)
        addresses = POINTER(hidden.data_ptr()), POINTER(logits.data_ptr())
        self._kernel.score_tokens(ctypes.byref(self._model), WHOLE(len(hidden)), *addresses)
        return logits

    def copy(self, source: int, target: int, length: int) -> None:
        """Let one slot hold the first `length` tokens of another."""
        lines = _up(length, LANES) // LANES
        for kept in self._cache:
            kept[:, target, :, :lines] = kept[:, source, :, :lines]

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


def _position_tables(model: GPTModel) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """What is added to embeddings (S, C), and by what keys and queries are turned (S, D / 2), if anything."""
    config, positions = model.config, torch.arange(model.config.max_position_embeddings)
    if config.position_embedding == "rotary":
        cos, sin = (table.flatten(0, -2) for table in rotary_tables(positions[None], config.head_width))
        return None, cos, sin
    learned = model.position_embedding
    return sinusoids(positions, config.n_embd) if learned is None else learned.weight, None, None


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
