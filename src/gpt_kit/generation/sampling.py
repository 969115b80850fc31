"""From logits to the next token.

Each rule is a function (B, V) logits -> (B, V) logits; `Sampling` applies them in the usual order: repetition penalty, temperature,
top-k, top-p, min-p. Temperature 0 is greedy. A draw is an argmax as well: of the logits with Gumbel noise added, which takes each token
with its probability (Gumbel 1954; Maddison et al. 2014, section 2). So how far the winner leads says whether rounding could have
decided, and each request has its own noise, wherever it is computed and whatever stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gpt_kit.errors import ConfigError

USUALLY_ENOUGH = 1024  # tokens, to hold a nucleus
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

    def scores(self, logits: Tensor, seen: Sequence[Sequence[int]], noise: Tensor | None) -> Tensor:
        """(B, V) logits -> (B, V) float32: the next token of a row is the one with the largest score.

        `seen` are the ids so far of each row; `noise` (B, V) is of `Noise.gumbel`, and None where the choice is greedy.
        """
        logits = penalize_repetition(logits.float(), seen, self.repetition_penalty)
        if self.temperature == 0:
            return logits
        logits = logits - logits.amax(dim=-1, keepdim=True)  # the largest is 0, which no temperature can make infinite
        logits = logits / max(self.temperature, SMALLEST_TEMPERATURE)
        logits = keep_min_p(keep_top_p(keep_top_k(logits, self.top_k), self.top_p), self.min_p)
        return logits if noise is None else logits + noise.to(logits.device)

    def noise(self, noises: Sequence[Noise], number: int) -> Tensor | None:
        """(B, number) for `scores`, fresh from each row's own; None where none is needed."""
        return torch.stack([noise.gumbel(number) for noise in noises]) if self.temperature else None


GREEDY = Sampling(temperature=0)


class Noise:
    """The random numbers of one request: the same seed gives the same ones on every device, in every batch."""

    def __init__(self, seed: int | None = None) -> None:
        """Without a seed, one is drawn from torch's generator, as `torch.manual_seed` sets it. Raises: ConfigError for one out of range."""
        check_seed(seed)
        self._generator = np.random.Generator(np.random.SFC64(int(torch.randint(2**63 - 1, ())) if seed is None else seed))

    def gumbel(self, number: int) -> Tensor:
        """(number,) float32 of the standard Gumbel distribution."""
        return torch.from_numpy(self._generator.standard_exponential(number, dtype=np.float32)).log_().neg_()


def check_seed(seed: int | None) -> None:
    """Raises: ConfigError for a seed that torch cannot take on every device."""
    if seed is not None and not 0 <= seed < 2**63:
        raise ConfigError(f"seed must be from 0 to 2**63 - 1 ({2**63 - 1}); got {seed}")


def penalize_repetition(logits: Tensor, seen: Sequence[Sequence[int]], penalty: float) -> Tensor:
    """Divide positive logits of seen tokens by `penalty` and multiply negative ones (Keskar et al. 2019, section 4.1)."""
    if penalty == 1:
        return logits
    logits = logits.clone()
    for row, ids in zip(logits, seen, strict=True):
        tokens = torch.tensor(sorted(set(ids)), device=row.device)
        row[tokens] = torch.where(row[tokens] > 0, row[tokens] / penalty, row[tokens] * penalty)
    return logits


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
    whole = logits.logsumexp(dim=-1, keepdim=True)
    best = logits.topk(min(USUALLY_ENOUGH, logits.shape[-1])).values  # sorting all 50,257 takes ten times as long
    if (best - whole).exp().sum(dim=-1).min() < p:
        best = logits.sort(descending=True).values
    probabilities = (best - whole).exp()
    inside = probabilities.cumsum(dim=-1) - probabilities < p  # what stands before a token does not reach p yet
    smallest_kept = best.gather(-1, inside.sum(dim=-1, keepdim=True).clamp(min=1) - 1)
    return logits.masked_fill(logits < smallest_kept, -torch.inf)


def keep_min_p(logits: Tensor, share: float) -> Tensor:
    """Rule out tokens less probable than `share` of the most probable one (Nguyen et al. 2024, section 3)."""
    if share == 0:
        return logits
    return logits.masked_fill(logits < logits.max(dim=-1, keepdim=True).values + math.log(share), -torch.inf)
