"""From logits to the next token.

Each rule is a function (B, V) logits -> (B, V) logits; `Sampling` applies them in the usual order: repetition penalty, temperature,
top-k, top-p, min-p. Temperature 0 is greedy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt_kit.errors import ConfigError

SMALLEST_TEMPERATURE = torch.finfo(torch.float32).tiny  # below it 1 / temperature overflows


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How the next token is chosen."""

    temperature: float = 1.0
    """Logits are divided by this; 0 always takes the most probable token."""
    top_k: int = 0
    """Only the k most probable tokens can be drawn; 0 means all."""
    top_p: float = 1.0
    """Only the most probable tokens that together reach this probability can be drawn; 1 means all."""
    min_p: float = 0.0
    """Only tokens at least this share as probable as the most probable one can be drawn; 0 means all."""
    repetition_penalty: float = 1.0
    """Above 1 makes tokens that already occur less probable; 1 changes nothing."""

    def __post_init__(self) -> None:
        problems = []
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            problems.append(f"temperature must be 0 or more; got {self.temperature}")
        if self.top_k < 0:
            problems.append(f"top_k must be 0 (all) or more; got {self.top_k}")
        if not 0 < self.top_p <= 1:
            problems.append(f"top_p must be above 0 and at most 1; got {self.top_p}")
        if not 0 <= self.min_p <= 1:
            problems.append(f"min_p must be from 0 to 1; got {self.min_p}")
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0):
            problems.append(f"repetition_penalty must be above 0; got {self.repetition_penalty}")
        if problems:
            raise ConfigError("these sampling settings cannot be used:\n  - " + "\n  - ".join(problems))

    def choose(self, logits: Tensor, seen: Tensor, seen_mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, V) logits -> (B,) token ids. `seen` (B, S) are the ids so far, `seen_mask` (B, S) False at padding."""
        logits = penalize_repetition(logits.float(), seen, seen_mask, self.repetition_penalty)
        if self.temperature == 0:
            return logits.argmax(dim=-1)
        logits = logits - logits.amax(dim=-1, keepdim=True)  # the largest is 0, which no temperature can make infinite
        logits = logits / max(self.temperature, SMALLEST_TEMPERATURE)
        logits = keep_min_p(keep_top_p(keep_top_k(logits, self.top_k), self.top_p), self.min_p)
        return torch.multinomial(logits.softmax(dim=-1), num_samples=1, generator=generator)[:, 0]


def check_seed(seed: int | None) -> None:
    """Raises: ConfigError for a seed that torch cannot take on every device."""
    if seed is not None and not 0 <= seed < 2**63:
        raise ConfigError(f"seed must be from 0 to 2**63 - 1 ({2**63 - 1}); got {seed}")


def penalize_repetition(logits: Tensor, seen: Tensor, seen_mask: Tensor, penalty: float) -> Tensor:
    """Divide positive logits of seen tokens by `penalty` and multiply negative ones (Keskar et al. 2019, section 4.1)."""
    if penalty == 1:
        return logits
    counts = torch.zeros_like(logits).scatter_add_(1, seen, seen_mask.to(logits.dtype))
    return torch.where(counts > 0, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Rule out all but the k largest (Fan et al. 2018, section 5.4)."""
    if k == 0 or k >= logits.shape[-1]:
        return logits
    smallest_kept = logits.topk(k).values[:, -1:]
    return logits.masked_fill(logits < smallest_kept, -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Rule out all but the nucleus, the smallest set that reaches probability p (Holtzman et al. 2020, section 3.1)."""
    if p == 1:
        return logits
    descending, order = logits.sort(descending=True)
    probabilities = descending.softmax(dim=-1)
    outside = probabilities.cumsum(dim=-1) - probabilities >= p  # what stands before a token already reaches p
    return logits.masked_fill(outside.gather(-1, order.argsort(dim=-1)), -torch.inf)


def keep_min_p(logits: Tensor, share: float) -> Tensor:
    """Rule out tokens less probable than `share` of the most probable one (Nguyen et al. 2024, section 3)."""
    if share == 0:
        return logits
    return logits.masked_fill(logits < logits.max(dim=-1, keepdim=True).values + math.log(share), -torch.inf)
