"""`evaluations.jsonl`: one line a figure, with what is needed to know whose it is and to have it again.

    {"task": "arc_easy", "metric": "acc", "value": 0.43, "stderr": 0.01, "count": 2376, "unit": "questions", "num_fewshot": 0,
     "settings": {…}, "model": "runs/a", "model_sha256": "…", "data": "allenai/ai2_arc:ARC-Easy", "data_sha256": "…",
     "command": "gpt-kit eval …", "at": "2026-11-21T10:00:00+00:00", "gpt_kit": "0.1.0"}

`stderr` is null where it cannot be known, and so is a value that is not finite. Lines are only ever added.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt_kit.evaluation.statistics import Figure
from gpt_kit.files import MANIFEST, full_disk_explained, read_json, sha256_of_file
from gpt_kit.version import __version__

EVALUATIONS = "evaluations.jsonl"
WEIGHT_FILES = ("*.safetensors", "model.ckpt.data-*", "params_*.npy")
"""Of Hugging Face folders (adapters too), and of the original GPT-2 and GPT-1 releases."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The figures of one task on one model."""

    task: str
    figures: Sequence[Figure]
    data: str
    """Where the texts or questions come from."""
    data_sha256: str
    """Of the file; of rows from elsewhere, of their JSON, one line each."""
    num_fewshot: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    """What else decides the figures."""


def append_evaluations(file: Path, evaluations: Iterable[Evaluation], *, model: str, model_sha256: str, command: str) -> None:
    """Add a line for each figure, all of them in one write. Raises: DiskFullError."""
    at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    lines = [
        json.dumps({
            "task": evaluation.task, "metric": figure.metric, "value": _finite(figure.value), "stderr": _finite(figure.stderr),
            "count": figure.count, "unit": figure.unit, "num_fewshot": evaluation.num_fewshot, "settings": evaluation.settings,
            "model": model, "model_sha256": model_sha256, "data": evaluation.data, "data_sha256": evaluation.data_sha256,
            "command": command, "at": at, "gpt_kit": __version__,
        }, ensure_ascii=False) + "\n"
        for evaluation in evaluations for figure in evaluation.figures
    ]  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    with full_disk_explained(file), open(file, "ab+") as stream:
        broken = stream.tell() > 0 and stream.seek(-1, os.SEEK_END) >= 0 and stream.read(1) != b"\n"  # a line that a kill cut off
        stream.write(("\n" * broken + "".join(lines)).encode())


def weights_sha256(folder: Path) -> str:
    """SHA-256 of a model's weight file; of several, that of their names and hashes. Empty where there is none of a known name."""
    files = sorted({file for pattern in WEIGHT_FILES for file in folder.glob(pattern)})
    known = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}
    hashes = [str(known.get(file.name) or sha256_of_file(file)) for file in files]
    if len(hashes) < 2:
        return "".join(hashes)
    listed = "".join(f"{digest}  {file.name}\n" for digest, file in zip(hashes, files, strict=True))  # as sha256sum writes it
    return hashlib.sha256(listed.encode()).hexdigest()


def rows_sha256(rows: Iterable[object]) -> str:
    """SHA-256 over rows as lines of JSON, their keys sorted."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False, default=str).encode() + b"\n")
    return digest.hexdigest()


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
