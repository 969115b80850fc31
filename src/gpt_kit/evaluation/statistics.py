"""Figures, each with the count it rests on and its standard error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One result."""

    metric: str
    value: float
    stderr: float | None
    """Standard error of `value`; None where it cannot be known, as from a single observation."""
    count: int
    """What `value` is a mean over: `count` of `unit`."""
    unit: str
    """questions, tokens, bytes, …"""


def mean_figure(metric: str, values: Sequence[float], unit: str) -> Figure:
    """The mean and s / sqrt(n), s with n - 1: as lm-evaluation-harness takes it (api/metrics.py), to the last digit."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return Figure(metric, mean, None, len(values), unit)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return Figure(metric, mean, deviation / math.sqrt(len(values)), len(values), unit)


def ratio_with_error(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, float | None]:
    """sum(x) / sum(y) over pairs that were drawn together, and its standard error.

    By linearisation (Cochran 1977, section 6.4): sqrt(n / (n - 1) · sum((x - r·y)²)) / sum(y). With every y = 1 it is that of the mean.
    """
    size, total = len(numerators), sum(denominators)
    ratio = sum(numerators) / total
    if size < 2:
        return ratio, None
    squares = sum((x - ratio * y) ** 2 for x, y in zip(numerators, denominators, strict=True))
    return ratio, math.sqrt(size / (size - 1) * squares) / total


def exponential(metric: str, mean: float, stderr: float | None, count: int, unit: str) -> Figure:
    """exp of a mean, infinite where that overflows; its standard error is that of the mean times itself (first order)."""
    value = math.exp(mean) if mean < 700 else math.inf
    return Figure(metric, value, None if stderr is None else value * stderr, count, unit)
