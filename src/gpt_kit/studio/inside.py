"""What happens inside a model while it reads a text.

The blocks are walked one by one with the model's own layers, so what is shown is what is computed:

    attention   (L, H, T, T)  how much of its attention position t gives to position s
    lens        (L + 1, T, V) the final norm and the head after the embedding and after each block: what the model would have said, had
                              it stopped there (nostalgebraist 2020, "interpreting GPT: the logit lens"); the last one is its answer
    norms       (L + 1, T)    the length of the residual stream, and of what attention and feed-forward add to it, (L, T) each

In a post-norm model (GPT-1) every block ends in a LayerNorm, so its stream has nearly one length everywhere; what a layer adds is taken
before that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt_kit.model import GPTModel
from gpt_kit.model.attention import MultiHeadAttention
from gpt_kit.model.positions import rotary_tables, rotate
from gpt_kit.studio.scoring import check_length

Rotary = tuple[Tensor, Tensor] | None


@dataclass(frozen=True, slots=True)
class Inside:
    """One reading of T tokens by L layers of H heads. Tensors are on the CPU, float32."""

    attention: Tensor
    """(L, H, T, T); rows sum to 1, and nothing stands above the diagonal."""
    lens_tokens: Tensor
    """(L + 1, T, K) ids of the most probable next tokens."""
    lens_probabilities: Tensor
    """(L + 1, T, K)"""
    lens_following: Tensor
    """(L + 1, T - 1): the probability of the token that does follow."""
    stream_norms: Tensor
    """(L + 1, T)"""
    attention_norms: Tensor
    """(L, T)"""
    feed_forward_norms: Tensor
    """(L, T)"""


@torch.inference_mode()
def look_inside(model: GPTModel, ids: Sequence[int], num_choices: int = 5) -> Inside:
    """Read `ids` (T) and note everything. Raises: InputError for more tokens than the context has."""
    check_length(model, ids)
    tokens = torch.tensor([ids], device=model.device)
    positions = torch.arange(len(ids), device=model.device)[None]
    rotary = rotary_tables(positions, model.config.head_width) if model.config.position_embedding == "rotary" else None
    x = model.embed(tokens, positions)
    attention, lens, streams, added = [], [_lens(model, x, tokens, num_choices)], [x], []
    for block in model.blocks:
        read = block.attention_norm(x) if block.pre_norm else x  # type: ignore[operator]
        attention.append(attention_weights(block.attention, read, rotary))  # type: ignore[arg-type]
        gathered = block.attention(read, None, rotary)  # type: ignore[operator]
        middle = x + gathered if block.pre_norm else block.attention_norm(x + gathered)  # type: ignore[operator]
        thought = block.feed_forward(block.feed_forward_norm(middle) if block.pre_norm else middle)  # type: ignore[operator]
        added.append((gathered, thought))
        x = middle + thought if block.pre_norm else block.feed_forward_norm(middle + thought)  # type: ignore[operator]
        streams.append(x)
        lens.append(_lens(model, x, tokens, num_choices))
    chosen, probabilities, following = (torch.stack(part).cpu() for part in zip(*lens, strict=True))
    return Inside(
        attention=torch.stack(attention).cpu(),
        lens_tokens=chosen,
        lens_probabilities=probabilities,
        lens_following=following,
        stream_norms=_norms(streams),
        attention_norms=_norms([part for part, _ in added]),
        feed_forward_norms=_norms([part for _, part in added]),
    )


def attention_weights(layer: MultiHeadAttention, x: Tensor, rotary: Rotary) -> Tensor:
    """(1, T, C), what the layer reads -> (H, T, T), the weights that it mixes values with."""
    num_tokens = x.shape[1]
    q, k, _ = layer.qkv(x).view(1, num_tokens, 3, layer.n_head, -1).permute(2, 0, 3, 1, 4)  # each (1, H, T, D)
    if rotary is not None:
        q, k = rotate(q, rotary), rotate(k, rotary)
    scores = (q @ k.transpose(-2, -1))[0].float() / math.sqrt(q.shape[-1])
    future = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=x.device).triu(1)
    weights: Tensor = scores.masked_fill(future, -torch.inf).softmax(dim=-1)
    return weights


def _lens(model: GPTModel, x: Tensor, tokens: Tensor, num_choices: int) -> tuple[Tensor, Tensor, Tensor]:
    """The head on a stream (1, T, C): ids (T, K) and probabilities (T, K) of the likeliest, and (T - 1,) of the tokens that follow."""
    probabilities = F.linear(model.final_norm(x)[0], model.head_weight).float().softmax(dim=-1)  # (T, V)
    best, which = probabilities.topk(min(num_choices, probabilities.shape[1]))
    return which, best, probabilities[:-1].gather(1, tokens[0, 1:, None])[:, 0]


def _norms(streams: list[Tensor]) -> Tensor:
    """(1, T, C) each -> (number, T)"""
    lengths: Tensor = torch.cat(streams).float().norm(dim=-1)
    return lengths.cpu()
