"""The learning rate over a run, against closed forms."""

from __future__ import annotations

import math

import pytest

from gpt_kit.config import TrainingConfig
from gpt_kit.training import learning_rate_share

WARMUP, STEPS, LOW = 10, 111, 0.1


def shares(schedule: str, **changes: float) -> list[float]:
    config = TrainingConfig(**{"schedule": schedule, "warmup_steps": WARMUP, "max_steps": STEPS, "min_learning_rate_ratio": LOW, **changes})
    return [learning_rate_share(step, config) for step in range(config.max_steps)]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_rise_is_linear_and_never_zero(schedule: str) -> None:
    assert shares(schedule)[:WARMUP] == pytest.approx([(step + 1) / WARMUP for step in range(WARMUP)])
    assert shares(schedule)[WARMUP] == pytest.approx(1.0)


def test_the_falls_are_their_formulas_and_end_exactly_at_the_lowest() -> None:
    progress = [step / 100 for step in range(101)]
    assert shares("linear")[WARMUP:] == pytest.approx([1 - 0.9 * p for p in progress])
    assert shares("cosine")[WARMUP:] == pytest.approx([LOW + 0.9 * (1 + math.cos(math.pi * p)) / 2 for p in progress])
    assert shares("constant")[WARMUP:] == [1.0] * 101
    assert shares("cosine")[-1] == pytest.approx(LOW)
    assert shares("cosine")[WARMUP + 50] == pytest.approx((1 + LOW) / 2)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize(("warmup_steps", "max_steps"), [(0, 1), (0, 2), (5, 5), (5, 6), (9, 3), (1, 1)])
def test_short_runs_stay_between_zero_and_one(schedule: str, warmup_steps: int, max_steps: int) -> None:
    """A warm-up as long as the run, or longer, or none."""
    found = shares(schedule, warmup_steps=warmup_steps, max_steps=max_steps)
    assert len(found) == max_steps
    assert all(0 < share <= 1 for share in found)
