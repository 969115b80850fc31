"""Ids -> how probable each was in the eyes of a model, and what it would rather have had there.

One pass over the whole text gives every position at once. The probabilities are the model's own (temperature 1, nothing cut off), so they
say the same however the text was made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from gpt_kit.errors import InputError
from gpt_kit.model import GPTModel
from gpt_kit.studio.cutting import pieces_of, shown
from gpt_kit.tokenizers import Tokenizer

ROWS = 64  # positions whose logits are held at a time: those of a whole text would be its largest tensor


@dataclass(frozen=True, slots=True)
class Rival:
    """A token that could have stood here."""

    token: int
    text: str
    probability: float


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """One token of a text."""

    token: int
    text: str
    probability: float | None
    """None for the first: nothing stands before it."""
    rivals: tuple[Rival, ...]
    """The most probable tokens here, most probable first; the token itself may be one of them."""


def score_tokens(model: GPTModel, tokenizer: Tokenizer, ids: Sequence[int], num_rivals: int = 8) -> list[ScoredToken]:
    """Every token of `ids` (T) with its probability and rivals. Raises: InputError for more tokens than the context has."""
    check_length(model, ids)
    tokens = torch.tensor([ids], device=model.device)
    of_token: list[float | None] = [None]
    rivals: list[tuple[Rival, ...]] = [()]
    with torch.inference_mode():
        hidden = model.hidden_states(tokens)[0, :-1]  # (T - 1, C)
        for start in range(0, len(ids) - 1, ROWS):
            logits = F.linear(hidden[start : start + ROWS], model.head_weight).float()  # (rows, V)
            log_p = logits.log_softmax(dim=-1)
            following = tokens[0, start + 1 : start + 1 + len(log_p), None]
            of_token += log_p.gather(1, following)[:, 0].exp().tolist()
            best, which = log_p.topk(min(num_rivals, log_p.shape[1]))
            for row, numbers in zip(best.exp().tolist(), which.tolist(), strict=True):
                rivals.append(tuple(Rival(n, shown(tokenizer, n), p) for n, p in zip(numbers, row, strict=True)))
    return [ScoredToken(*found) for found in zip(ids, pieces_of(tokenizer, ids), of_token, rivals, strict=True)]


def check_length(model: GPTModel, ids: Sequence[int]) -> None:
    """Raises: InputError unless `ids` are at least one and fit the context."""
    context = model.config.max_position_embeddings
    if not 1 <= len(ids) <= context:
        raise InputError(f"this text has {len(ids):,} tokens; the model sees from 1 to {context:,} at a time. Take a part of it")


def bits(tokens: Sequence[ScoredToken]) -> float:
    """What a model needs to write these tokens down, in bits: the sum of -log2 p over those that have one."""
    smallest = 2.0**-126  # a probability that float32 rounds to 0
    return -sum(math.log2(max(token.probability, smallest)) for token in tokens if token.probability is not None)
