"""The forward pass for writing: ids -> hidden states, over slots of memory that keep what was read.

It computes what `GPTModel` computes, laid out flat: a token costs hundreds of small operations, so each call that is saved is seen
in tokens per second. The model's own forward pass (model/gpt.py) is the one to read first, and the one that this is tested against.
On a CPU in float32 single tokens and short prompts go through C (float32.c), over the same memory.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt_kit.generation.native_pass import FLAGS, LargePages, Linear, NativePass, Part, linear_layers, round_up
from gpt_kit.model import GPTModel
from gpt_kit.model.adapted import weight_of
from gpt_kit.model.block import TransformerBlock
from gpt_kit.model.layers import LayerNorm
from gpt_kit.model.positions import rotary_tables, rotate
from gpt_kit.native import compiled_c

Layer = Callable[[Tensor], Tensor]
MakeLinear = Callable[[Tensor, Tensor | None], Layer]
"""(out, in) weight and (out,) bias -> the function (…, in) -> (…, out) of both."""


KERNEL = Path(__file__).with_name("float32.c")
BLOCK = 32  # outputs of a tile, as in float32.c
FEW_ROWS = 64  # which take C less time than torch; a prompt of more goes through torch
PACKED_FOR_ROWS = 8  # measured on two cores: packed for 8 rows, 1 to 300 are as fast as if packed for themselves, or nearly


def plain_linear(weight: Tensor, bias: Tensor | None) -> Layer:
    """The layer as it is, from the weight where it lies."""
    return lambda x: F.linear(x, weight, bias)


def exact_linear(weight: Tensor, bias: Tensor | None) -> Layer:
    """The layer as it is. On a CPU its weight is laid out anew for oneDNN, as torch.compile does when it freezes a model.

    All products of a GPT-2 124M for 1, 8 and 32 tokens take 18, 18 and 44 ms, and 35, 58 and 90 from the weight as it lies (two cores,
    AVX-512).
    """
    packs = weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.bfloat16) and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not packs or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return plain_linear(weight, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), PACKED_FOR_ROWS)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


def float32_kernel() -> ctypes.CDLL | None:
    """float32.c, ready to be called; None where no compiler makes it."""
    return compiled_c(KERNEL, *FLAGS, "-march=native")


class Decoder:
    """A model and `slots` texts of up to `capacity` tokens, of which it keeps keys and values (n_layer, slots, H, capacity, D).

    The weights are those of this moment, with adapters merged.
    """

    def __init__(
        self, model: GPTModel, slots: int, capacity: int, make_linear: MakeLinear = exact_linear, kernel: ctypes.CDLL | None = None
    ) -> None:
        """`kernel`: float32.c."""
        config, memory = model.config, LargePages()
        self.model, self.config, self.capacity = model, config, capacity
        shape = (config.n_layer, slots, config.n_head, capacity, config.head_width)
        # Zeros, for what a mask rules out counts 0 times, and 0 times NaN is NaN.
        zeros = partial(torch.zeros, device=model.device) if kernel is None else memory.zeros
        self._keys, self._values = (zeros(*shape, dtype=model.head_weight.dtype) for _ in ("keys", "values"))
        self._blocks = [_Block(block, config.n_head, make_linear) for block in model.blocks if isinstance(block, TransformerBlock)]
        self._head = make_linear(model.head_weight, None)
        self._native: NativePass | None = None
        if kernel is not None:
            cache, in_tiles = (self._keys, self._values), partial(_in_tiles, memory)
            self._native = NativePass(
                kernel, model, cache=cache, capacity=capacity, make_linear=in_tiles, inputs=torch.float32, final_norm=None
            )

    @torch.inference_mode()
    def read(self, parts: Sequence[Part]) -> Tensor:
        """Parts of texts -> (T of all, C) hidden states, in their order. Short ones are read together."""
        longest = FEW_ROWS if self._native else 1
        short = [part for part in parts if len(part.ids) <= longest]
        together = self._read_short(short) if short else torch.empty(0)
        if len(short) == len(parts):
            return together
        rows = iter(torch.split(together, [len(part.ids) for part in short]))
        return torch.cat([next(rows) if len(part.ids) <= longest else self._read_text(part) for part in parts])

    def _read_short(self, parts: Sequence[Part]) -> Tensor:
        """-> (T of all, C)"""
        if self._native is None:
            return self._read_tokens(parts)
        return self.model.final_norm(self._native.read(parts))  # type: ignore[no-any-return]  # as below

    def _read_text(self, part: Part) -> Tensor:
        """-> (T, C)"""
        tokens, end = torch.tensor([part.ids], device=self.model.device), part.start + len(part.ids)
        positions = torch.arange(part.start, end, device=self.model.device)[None]
        visible = torch.arange(end, device=tokens.device) <= positions[0, :, None] if part.start else None
        return self._forward(tokens, positions, [part.slot], end, visible)[0]

    def _read_tokens(self, parts: Sequence[Part]) -> Tensor:
        """One token of each of B texts -> (B, C)."""
        device, starts = self.model.device, [part.start for part in parts]
        tokens, positions = (torch.tensor(each, device=device)[:, None] for each in ([part.ids[0] for part in parts], starts))
        end = max(starts) + 1
        ragged = min(starts) + 1 < end
        visible = (torch.arange(end, device=device) <= positions)[:, None, None] if ragged else None  # (B, 1, 1, S)
        return self._forward(tokens, positions, [part.slot for part in parts], end, visible)[:, 0]

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """(N, C) -> (N, V) float32."""
        if self._native is not None and len(hidden) <= FEW_ROWS:
            return self._native.logits(hidden)
        return self._head(hidden)[..., : self.config.vocab_size].float()

    def copy(self, source: int, target: int, length: int) -> None:
        """Let one slot hold the first `length` tokens of another."""
        for kept in (self._keys, self._values):
            kept[:, target, :, :length] = kept[:, source, :, :length]

    def _forward(self, tokens: Tensor, positions: Tensor, slots: Sequence[int], end: int, visible: Tensor | None) -> Tensor:
        """(B, T) tokens of B slots -> (B, T, C). `end`: of the keys that any of them looks at."""
        x = self.model.embed(tokens, positions)
        rotary = rotary_tables(positions, self.config.head_width) if self.config.position_embedding == "rotary" else None
        chosen = torch.tensor(slots, device=tokens.device)
        where = chosen[:, None], slice(None), positions
        neighbours = list(slots) == list(range(slots[0], slots[0] + len(slots)))
        rows = slice(slots[0], slots[0] + len(slots)) if neighbours else chosen  # of neighbours nothing is copied
        for layer, block in enumerate(self._blocks):
            x = block(x, self._keys[layer], self._values[layer], where, (rows, slice(None), slice(end)), visible, rotary)
        return self.model.final_norm(x)  # type: ignore[no-any-return]  # the module itself: a stop request waits at its door


class _Block:
    """One transformer block, as a function."""

    def __init__(self, block: TransformerBlock, n_head: int, make_linear: MakeLinear) -> None:
        self.pre_norm, self.n_head = block.pre_norm, n_head
        self.attention_norm, self.feed_forward_norm = _norm(block.attention_norm), _norm(block.feed_forward_norm)
        layers = (make_linear(weight_of(layer), layer.bias) for layer in linear_layers(block))
        self.qkv, self.projection, self.expand, self.contract = layers

    def __call__(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        where: tuple[Tensor, slice, Tensor],
        seen: tuple[slice | Tensor, slice, slice],
        visible: Tensor | None,
        rotary: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """(B, T, C) -> (B, T, C); new keys and values go to `where` in those of all slots (slots, H, S, D), of which `seen` are looked at.

        Without `visible` each of the T sees what stands before it, and one sees all.
        """
        qkv = self.qkv(self.attention_norm(x) if self.pre_norm else x)
        q, k, v = qkv.view(*x.shape[:2], 3, self.n_head, -1).unbind(2)  # each (B, T, H, D)
        if rotary is not None:
            q, k = (rotate(each.transpose(1, 2), rotary).transpose(1, 2) for each in (q, k))
        keys[where], values[where] = k, v
        causal = visible is None and x.shape[1] > 1
        mixed = F.scaled_dot_product_attention(q.transpose(1, 2), keys[seen], values[seen], attn_mask=visible, is_causal=causal)
        mixed = mixed.transpose(1, 2).flatten(2)
        if self.pre_norm:
            x = x + self.projection(mixed)
            return x + self.contract(F.gelu(self.expand(self.feed_forward_norm(x)), approximate="tanh"))
        x = self.attention_norm(x + self.projection(mixed))
        return self.feed_forward_norm(x + self.contract(F.gelu(self.expand(x), approximate="tanh")))


def _norm(norm: LayerNorm) -> Layer:
    shape, weight, bias, epsilon = norm.weight.shape, norm.weight, norm.bias, norm.epsilon
    return lambda x: F.layer_norm(x, shape, weight, bias, epsilon)


def _in_tiles(memory: LargePages, weight: Tensor, bias: Tensor | None) -> Linear:
    """As float32.c reads it."""
    outputs, inputs = weight.shape
    rows = round_up(outputs, BLOCK)
    tiles = memory.zeros(rows // BLOCK, inputs, BLOCK, dtype=torch.float32)
    tiles.copy_(F.pad(weight, (0, 0, 0, rows - outputs)).view(-1, BLOCK, inputs).transpose(1, 2))
    return Linear(tiles, None, None, F.pad(torch.zeros(outputs) if bias is None else bias, (0, rows - outputs)), inputs, outputs)
