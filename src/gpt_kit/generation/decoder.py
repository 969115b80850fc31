"""The forward pass for writing: ids -> hidden states, over slots of memory that keep what was read.

It computes what `GPTModel` computes, laid out flat: a token costs hundreds of small operations, so each call that is saved is seen
in tokens per second. The model's own forward pass (model/gpt.py) is the one to read first, and the one that this is tested against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt_kit.model import GPTModel
from gpt_kit.model.adapted import weight_of
from gpt_kit.model.block import TransformerBlock
from gpt_kit.model.layers import LayerNorm
from gpt_kit.model.positions import rotary_tables, rotate, sinusoids

Layer = Callable[[Tensor], Tensor]
MakeLinear = Callable[[Tensor, Tensor | None], Layer]
"""(out, in) weight and (out,) bias -> the function (…, in) -> (…, out) of both."""


def exact_linear(weight: Tensor, bias: Tensor | None) -> Layer:
    """The layer as it is."""
    return lambda x: F.linear(x, weight, bias)


class Decoder:
    """A model and `slots` texts of up to `capacity` tokens, of which it keeps keys and values (n_layer, slots, capacity, H, D).

    It snapshots references, not copies: a model that learns on is seen as it is now. Adapters are merged.
    """

    def __init__(self, model: GPTModel, slots: int, capacity: int, make_linear: MakeLinear = exact_linear) -> None:
        config = model.config
        self.model, self.config, self.capacity = model, config, capacity
        shape = (config.n_layer, slots, capacity, config.n_head, config.head_width)
        self._keys = torch.zeros(shape, device=model.device, dtype=model.head_weight.dtype)
        self._values = torch.zeros_like(self._keys)  # zeros, for what a mask rules out counts 0 times, and 0 times NaN is NaN
        self._embedding = weight_of(model.token_embedding)
        self._blocks = [_Block(block, config.n_head, make_linear) for block in model.blocks if isinstance(block, TransformerBlock)]
        self._final_norm = _norm(model.final_norm) if isinstance(model.final_norm, LayerNorm) else None
        self._head = make_linear(model.head_weight, None)

    @torch.inference_mode()
    def read(self, slot: int, ids: Sequence[int], start: int) -> Tensor:
        """Text behind the `start` tokens that the slot already holds -> (T, C) hidden states."""
        tokens = torch.tensor([ids], device=self.model.device)
        positions = torch.arange(start, start + len(ids), device=self.model.device)[None]
        end = start + len(ids)
        visible = None if start == 0 or len(ids) == 1 else torch.arange(end, device=tokens.device) <= positions[0, :, None]
        return self._forward(tokens, positions, slice(slot, slot + 1), end, visible)[0]

    @torch.inference_mode()
    def step(self, tokens: Sequence[int], lengths: Sequence[int]) -> Tensor:
        """One further token for each of the first B slots, which hold `lengths` tokens -> (B, C) hidden states."""
        device = self.model.device
        positions = torch.tensor(lengths, device=device)[:, None]
        end = max(lengths) + 1
        ragged = min(lengths) + 1 < end
        visible = (torch.arange(end, device=device) <= positions)[:, None, None] if ragged else None  # (B, 1, 1, S)
        return self._forward(torch.tensor(tokens, device=device)[:, None], positions, slice(0, len(tokens)), end, visible)[:, 0]

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """(N, C) -> (N, V) float32."""
        return self._head(hidden)[..., : self.config.vocab_size].float()

    def copy(self, source: int, target: int, length: int) -> None:
        """Let one slot hold the first `length` tokens of another."""
        for kept in (self._keys, self._values):
            kept[:, target, :length] = kept[:, source, :length]

    def _forward(self, tokens: Tensor, positions: Tensor, rows: slice, end: int, visible: Tensor | None) -> Tensor:
        """(B, T) tokens -> (B, T, C). `rows` are the slots, `end` the keys that any of them looks at."""
        x = F.embedding(tokens, self._embedding)
        if self.config.scale_embeddings:
            x = x * math.sqrt(self.config.n_embd)
        if self.model.position_embedding is not None:
            x = x + F.embedding(positions, weight_of(self.model.position_embedding))
        elif self.config.position_embedding == "sinusoidal":
            x = x + sinusoids(positions, self.config.n_embd).to(x.dtype)
        rotary = rotary_tables(positions, self.config.head_width) if self.config.position_embedding == "rotary" else None
        where = torch.arange(len(tokens), device=tokens.device)[:, None], positions
        for layer, block in enumerate(self._blocks):
            x = block(x, self._keys[layer, rows], self._values[layer, rows], where, end, visible, rotary)
        return self._final_norm(x) if self._final_norm else x


class _Block:
    """One transformer block, as a function."""

    def __init__(self, block: TransformerBlock, n_head: int, make_linear: MakeLinear) -> None:
        attention, feed_forward = block.attention, block.feed_forward
        self.pre_norm, self.n_head = block.pre_norm, n_head
        self.attention_norm, self.feed_forward_norm = _norm(block.attention_norm), _norm(block.feed_forward_norm)
        layers = attention.qkv, attention.projection, feed_forward.expand, feed_forward.contract
        self.qkv, self.projection, self.expand, self.contract = (make_linear(weight_of(layer), layer.bias) for layer in layers)

    def __call__(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        where: tuple[Tensor, Tensor],
        end: int,
        visible: Tensor | None,
        rotary: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """(B, T, C) -> (B, T, C); the new keys and values go to `where` in those of their slots (B, S, H, D)."""
        qkv = self.qkv(self.attention_norm(x) if self.pre_norm else x)
        q, k, v = qkv.view(*x.shape[:2], 3, self.n_head, -1).unbind(2)
        q = q.transpose(1, 2)
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k.transpose(1, 2), rotary).transpose(1, 2)
        keys.index_put_(where, k.to(keys.dtype))
        values.index_put_(where, v.to(values.dtype))
        k, v = keys[:, :end].transpose(1, 2), values[:, :end].transpose(1, 2)
        causal = visible is None and x.shape[1] > 1
        mixed = F.scaled_dot_product_attention(q.to(k.dtype), k, v, attn_mask=visible, is_causal=causal)
        mixed = mixed.transpose(1, 2).flatten(2).to(x.dtype)
        if self.pre_norm:
            x = x + self.projection(mixed)
            return x + self.contract(F.gelu(self.expand(self.feed_forward_norm(x)), approximate="tanh"))
        x = self.attention_norm(x + self.projection(mixed))
        return self.feed_forward_norm(x + self.contract(F.gelu(self.expand(x), approximate="tanh")))


def _norm(norm: LayerNorm) -> Layer:
    shape, weight, bias, epsilon = norm.weight.shape, norm.weight, norm.bias, norm.epsilon
    return lambda x: F.layer_norm(x, shape, weight, bias, epsilon)
