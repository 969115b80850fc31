"""A model's pass in C (pass.h): the structures, filled from a model, and the two calls.

One call takes the place of some 300 operations of torch, each of which finds its code pushed out of the caches by the weights.
"""

from __future__ import annotations

import ctypes
import math
import mmap
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gpt_kit.model import GPTModel
from gpt_kit.model.adapted import weight_of
from gpt_kit.model.block import TransformerBlock
from gpt_kit.model.layers import LayerNorm
from gpt_kit.model.positions import rotary_tables, sinusoids

ROWS_AT_ONCE, LANES = 256, 16  # as in pass.h
FLAGS = "-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp"
WORTH_THREADS = 1_000_000  # weights: in less, threads mostly wait for each other, and for long where other processes want the cores
POINTER, WHOLE = ctypes.c_void_p, ctypes.c_int64


class Part(NamedTuple):
    """Of a text: what is to be read next."""

    slot: int
    ids: Sequence[int]
    start: int
    """How many tokens the slot holds already."""


class Linear(NamedTuple):
    """A linear layer in the layout of its format. Its inputs and outputs may be rounded up."""

    weight: Tensor
    sum: Tensor | None
    scale: Tensor | None
    bias: Tensor | None
    inputs: int
    outputs: int


MakeLinear = Callable[[Tensor, Tensor | None], Linear]
"""(out, in) weight and (out,) bias -> the layer."""


class _Linear(ctypes.Structure):
    _fields_ = [*((name, POINTER) for name in ("weight", "sum", "scale", "bias")), ("inputs", WHOLE), ("outputs", WHOLE)]


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
        *((name, POINTER) for name in ("inputs", "scale", "zero", "wide", "mixed", "scores")),
    ]


class LargePages:
    """Memory of 2 MB pages, where the system has them, cut into pieces: it is read a third faster than that of small ones."""

    def __init__(self) -> None:
        self._free = torch.empty(0, dtype=torch.int8)

    def zeros(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """A piece of it, which begins at a line of the cache."""
        size = round_up(math.prod(shape) * dtype.itemsize, 64)
        if size > len(self._free):
            self._free = _mapped(max(size, 256 * 2**20))  # what nobody touches is only an address
        piece, self._free = self._free[:size], self._free[size:]
        return piece[: math.prod(shape) * dtype.itemsize].view(dtype).view(shape)


class NativePass:
    """A model over slots of memory that keep what was read, in C. Its weights and threads are those of this moment."""

    def __init__(
        self,
        kernel: ctypes.CDLL,
        model: GPTModel,
        *,
        cache: Sequence[Tensor],
        capacity: int,
        make_linear: MakeLinear,
        inputs: torch.dtype,
        final_norm: nn.Module | None,
    ) -> None:
        """`cache`: keys, values, and their scales if they have any, each (n_layer, …). `inputs`: what linear layers take.
        `final_norm`: the model's, if it is to be part of the pass.
        """
        config, self._kernel = model.config, kernel
        self._kept: list[Tensor] = [*cache]  # what the structures point to
        self._shape = config.n_embd, config.vocab_size
        blocks = [block for block in model.blocks if isinstance(block, TransformerBlock)]
        self._blocks = (_Block * len(blocks))(
            *(self._block(block, make_linear, [kept[layer] for kept in cache]) for layer, block in enumerate(blocks))
        )
        inner, width = config.inner_width, config.n_embd
        threads = torch.get_num_threads() if config.n_layer * width * (4 * width + 2 * inner) >= WORTH_THREADS else 1
        room = (
            torch.zeros(ROWS_AT_ONCE, round_up(max(inner, width), 64) + 64, dtype=inputs),
            torch.zeros(ROWS_AT_ONCE),
            torch.zeros(ROWS_AT_ONCE, dtype=torch.int32),
            torch.zeros(ROWS_AT_ONCE, max(inner, 3 * width)),
            torch.zeros(ROWS_AT_ONCE, width),
            torch.zeros(threads, round_up(capacity, LANES)),
        )
        self._model = _Model(
            *(config.n_layer, width, inner, config.n_head, capacity, config.norm == "pre", threads),
            self._floats(weight_of(model.token_embedding)),
            *(self._floats(table) for table in _position_tables(model)),
            ctypes.cast(self._blocks, POINTER),
            self._norm(final_norm),
            self._linear(make_linear(model.head_weight, None)),
            math.sqrt(width) if config.scale_embeddings else 1,
            *(self._keep(each) for each in room),
        )

    def read(self, parts: Sequence[Part]) -> Tensor:
        """Parts of texts -> (T of all, C) hidden states, float32, in their order."""
        tokens = [token for part in parts for token in part.ids]
        slots = [part.slot for part in parts for _ in part.ids]
        positions = [position for part in parts for position in range(part.start, part.start + len(part.ids))]
        hidden = torch.empty(len(tokens), self._shape[0])
        numbers = ((WHOLE * len(tokens))(*each) for each in (tokens, slots, positions))
        self._kernel.read_tokens(ctypes.byref(self._model), WHOLE(len(tokens)), *numbers, POINTER(hidden.data_ptr()))
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """(N, C) -> (N, V) float32."""
        hidden, logits = hidden.contiguous(), torch.empty(len(hidden), self._shape[1])
        addresses = POINTER(hidden.data_ptr()), POINTER(logits.data_ptr())
        self._kernel.score_tokens(ctypes.byref(self._model), WHOLE(len(hidden)), *addresses)
        return logits

    def _block(self, block: TransformerBlock, make_linear: MakeLinear, cache: Sequence[Tensor]) -> _Block:
        linears = (self._linear(make_linear(weight_of(layer), layer.bias)) for layer in linear_layers(block))
        norms = (self._norm(norm) for norm in (block.attention_norm, block.feed_forward_norm))
        return _Block(*norms, *linears, *(kept.data_ptr() for kept in cache))

    def _norm(self, norm: nn.Module | None) -> _Norm:
        if not isinstance(norm, LayerNorm):
            return _Norm()
        return _Norm(self._floats(norm.weight), self._floats(norm.bias), norm.epsilon)

    def _linear(self, linear: Linear) -> _Linear:
        *numbers, inputs, outputs = linear
        return _Linear(*(self._keep(each) for each in numbers), inputs, outputs)

    def _floats(self, tensor: Tensor | None) -> int | None:
        return None if tensor is None else self._keep(tensor.float())

    def _keep(self, tensor: Tensor | None) -> int | None:
        """Its address, for as long as this lives."""
        if tensor is None:
            return None
        tensor = tensor.detach().contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()


def linear_layers(block: TransformerBlock) -> tuple[nn.Linear, ...]:
    """In the order of the structures."""
    attention, feed_forward = block.attention, block.feed_forward
    return attention.qkv, attention.projection, feed_forward.expand, feed_forward.contract


def round_up(number: int, step: int) -> int:
    """To a multiple of `step`."""
    return (number + step - 1) // step * step


def _mapped(size: int) -> Tensor:
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # what could be shared stays on small ones
        memory.madvise(mmap.MADV_HUGEPAGE)
    else:
        memory = mmap.mmap(-1, size)
    return torch.frombuffer(memory, dtype=torch.int8)


def _position_tables(model: GPTModel) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """What is added to embeddings (S, C), and by what keys and queries are turned (S, D / 2), if anything."""
    config, positions = model.config, torch.arange(model.config.max_position_embeddings)
    if config.position_embedding == "rotary":
        cos, sin = (table.flatten(0, -2) for table in rotary_tables(positions[None], config.head_width))
        return None, cos, sin
    learned = model.position_embedding
    return sinusoids(positions, config.n_embd) if learned is None else learned.weight, None, None
