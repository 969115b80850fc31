"""`evaluations.jsonl` -> scores."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt_kit.evaluation.report.reading import read_lines

SHARES = ("acc", "acc_norm", "accuracy", "f1")  # shown in percent


LARGEST = 1e100  # what is larger is no measurement, and cannot be drawn
BAG_OF_WORDS = "bag of words"
BESIDE = {BAG_OF_WORDS: "classify", "classify (last step)": "classify"}  # what stands on the scale of another task


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One line of evaluations.jsonl (see records.py)."""

    task: str
    metric: str
    value: float | None
    """None: measured, and not finite."""
    stderr: float | None
    count: int | None
    unit: str
    """What `count` counts."""
    num_fewshot: int
    settings: str
    """What else decides the value, as JSON."""
    model: str
    model_sha256: str
    data: str
    data_sha256: str
    command: str

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What scores on one scale share."""
        return BESIDE.get(self.task, self.task), self.metric, self.num_fewshot, self.data_sha256 or self.data


def read_scores(path: Path, problems: list[str]) -> list[Score]:
    """The scores of a file, in its order."""
    return read_lines(path, _score, "a score", problems)


def newest(scores: Iterable[Score], *, of_each_model: bool = False) -> list[Score]:
    """Of scores of the same, the last, in the order in which they first occur; `of_each_model` that they name, or of all alike."""
    return list({(score.model * of_each_model, score.task, score.key, score.settings): score for score in scores}.values())


def shown(metric: str, value: float | None, stderr: float | None = None) -> str:
    """A value as people read it, in percent where it is a share: `31.14 ± 0.46 %`."""
    if value is None:
        return "not finite"
    factor, unit = (100, " %") if metric in SHARES else (1, "")
    digits = 2 if factor == 100 or abs(value) >= 100 else 4
    digits = 0 if abs(value) >= 1e4 else digits
    error = f" ± {stderr * factor:,.{digits}f}" if stderr is not None else ""
    return f"{value * factor:,.{digits}f}{error}{unit}"


def counted(count: int | None, unit: str = "") -> str:
    """What a figure rests on: `10,042 questions`."""
    return f"{count:,} {unit}".strip() if count else ""


def _score(record: dict[str, Any]) -> Score:
    """Raises: LookupError, TypeError or ValueError for what is no score."""
    return Score(
        task=_text(record["task"]),
        metric=_text(record["metric"]),
        value=_number(record["value"]),
        stderr=_number(record.get("stderr")),
        count=None if record.get("count") is None else int(record["count"]),
        num_fewshot=int(record.get("num_fewshot") or 0),
        settings=json.dumps(record.get("settings") or {}, sort_keys=True),
        **{name: _text(record.get(name) or "") for name in ("unit", "model", "model_sha256", "data", "data_sha256", "command")},
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _number(value: Any) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise TypeError(value)
    if value is not None and math.isfinite(value) and abs(value) > LARGEST:
        raise ValueError(value)
    return None if value is None or not math.isfinite(value) else float(value)
