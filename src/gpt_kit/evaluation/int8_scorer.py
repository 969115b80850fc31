"""What int8 costs: the scores that the engine in int8 gives (generation/quantize.py), for any task that float32 is scored on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from gpt_kit.evaluation.scorer import Score, Scorer
from gpt_kit.evaluation.token_trees import Request
from gpt_kit.generation import Engine, TokenScore
from gpt_kit.generation import Request as Prompt
from gpt_kit.runtime import Precision

CERTAIN = 1e9  # added to a logit: this token comes, whatever the model thinks of it


def _int8() -> Precision:
    return Precision("int8", "cpu", None, torch.amp.GradScaler("cpu", enabled=False))


@dataclass(frozen=True, kw_only=True, slots=True)
class Int8Scorer(Scorer):
    """One request after the other, as gpt-kit serve --int8 computes them."""

    precision: Precision = field(default_factory=_int8)

    def score(self, requests: Sequence[Request], progress: Callable[[int], None] = lambda _: None) -> list[Score]:
        """As Scorer. Raises: also ConfigError where int8 is not to be had."""
        engine, scores = Engine(self.model, slots=1, int8=True), []
        for request in requests:
            fitted = request.fitted(self.context)
            ids = [*fitted.context, *fitted.continuation]
            engine.submit(Prompt(prompt=ids[:-1], max_new_tokens=1, bias={ids[-1]: CERTAIN}, num_rivals=1, score_prompt=True))
            (last,) = engine.step()
            scored = [*last.prompt_scores, TokenScore(ids[-1], last.log_probability, last.rivals)]
            found = scored[-len(fitted.continuation) :]
            total = sum(score.log_probability for score in found if score.log_probability is not None)
            scores.append(Score(total, all(score.token == score.rivals[0][0] for score in found)))
            progress(len(scores))
        return scores
