"""How well labels are given: accuracy, F1 and Matthews' correlation, each with its count and standard error.

All three are functions of the confusion matrix alone, so one formula gives all their standard errors: the jackknife, which leaves out
one example after the other (Efron & Stein 1981). Examples in the same cell of the matrix change it alike, so a few evaluations do for
any number of them. For the accuracy it is sqrt(p · (1 - p) / (n - 1)) to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gpt_kit.errors import DataError
from gpt_kit.evaluation.statistics import Figure

Confusion = NDArray[np.int64]
"""(N, N): how often label i (row) got the answer j (column)."""
Measure = Callable[[Confusion], float]


def confusion_matrix(labels: Sequence[int], given: Sequence[int], num_labels: int) -> Confusion:
    """What became of the examples of each label. Raises: DataError where there is none."""
    if not len(labels):
        raise DataError("there is no example to measure on")
    cells = np.asarray(labels, dtype=np.int64) * num_labels + np.asarray(given, dtype=np.int64)
    return np.bincount(cells, minlength=num_labels**2).reshape(num_labels, num_labels)


def classification_figures(confusion: Confusion) -> list[Figure]:
    """Accuracy, F1 and Matthews' correlation.

    F1 is that of label 1 where there are two, as in GLUE, and the mean over all labels (macro) where there are more.
    """
    f1 = ("f1", f1_of_label_1) if len(confusion) == 2 else ("macro_f1", macro_f1)
    measures: list[tuple[str, Measure]] = [("accuracy", accuracy), f1, ("matthews", matthews)]
    count = int(confusion.sum())
    return [Figure(name, measure(confusion), _jackknife(measure, confusion), count, "texts") for name, measure in measures]


def accuracy(confusion: Confusion) -> float:
    """Share of examples with the right label."""
    return float(np.trace(confusion) / confusion.sum())


def f1_of_label_1(confusion: Confusion) -> float:
    """Harmonic mean of its precision and its recall; 0 where it neither occurs nor is given."""
    return float(_f1(confusion)[1])


def macro_f1(confusion: Confusion) -> float:
    """The mean of every label's F1."""
    return float(_f1(confusion).mean())


def matthews(confusion: Confusion) -> float:
    """Correlation of labels and answers, -1 to 1; for more than two labels as in Gorodkin 2004. 0 where all answers are the same."""
    exact = confusion.astype(np.float64)
    total, occurring, given = exact.sum(), exact.sum(axis=1), exact.sum(axis=0)
    spread = (total**2 - given @ given) * (total**2 - occurring @ occurring)
    return float((np.trace(exact) * total - occurring @ given) / np.sqrt(spread)) if spread > 0 else 0.0


def _f1(confusion: Confusion) -> NDArray[np.float64]:
    occurring_or_given = confusion.sum(axis=0) + confusion.sum(axis=1)
    return np.asarray(2 * np.diag(confusion) / np.maximum(occurring_or_given, 1))


def _jackknife(measure: Measure, confusion: Confusion) -> float | None:
    count = int(confusion.sum())
    if count < 2:
        return None
    left_out, without = [], confusion.copy()
    for cell in zip(*np.nonzero(confusion), strict=True):
        without[cell] -= 1
        left_out.append((int(confusion[cell]), measure(without)))
        without[cell] += 1
    mean = sum(number * value for number, value in left_out) / count
    return float(np.sqrt((count - 1) / count * sum(number * (value - mean) ** 2 for number, value in left_out)))
