"""What is asked of the engine, and what it tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gpt_kit.generation.sampling import GREEDY, Sampling


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is to be written."""

    prompt: Sequence[int]
    """Ids, at least one."""
    max_new_tokens: int
    sampling: Sampling = GREEDY
    seed: int | None = None
    """0 to 2**63 - 1: the same seed gives the same ids, alone or among others."""
    stop_ids: frozenset[int] = frozenset()
    """Ids that end the text; they are not reported."""
    bias: Mapping[int, float] = field(default_factory=dict)
    """id -> what is added to its logit."""
    num_rivals: int | None = None
    """Report log-probabilities, and those of so many most probable tokens beside."""
    score_prompt: bool = False
    """And of the prompt's tokens, with the first new one."""


@dataclass(frozen=True, slots=True)
class TokenScore:
    """What the model itself says of a token, before any sampling setting."""

    token: int
    log_probability: float | None
    """In nats; None for the first token of a text."""
    rivals: tuple[tuple[int, float], ...] = ()
    """(id, log p) of the most probable tokens, best first."""


@dataclass(frozen=True, slots=True)
class Event:
    """A new token of a request, or its end, or both."""

    request: int
    token: int | None
    """None: it ends without one."""
    end: str | None = None
    """None: it goes on; "stop": a stop id; "length": max_new_tokens are written."""
    log_probability: float | None = None
    rivals: tuple[tuple[int, float], ...] = ()
    prompt_scores: tuple[TokenScore, ...] = ()
