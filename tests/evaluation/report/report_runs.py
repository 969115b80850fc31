"""What tests of the report share: a page as a browser sees it, and the lines of a run's files, with figures that every test knows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from gpt_kit.files import sha256_of_file

MakeRun = Callable[..., Path]
CONFIG = '[data]\nsource = "stories.txt"\n[training]\nmax_steps = {steps}\nseed = 7\noptimizer = "adamw"\n'


def score(**changes: Any) -> dict[str, Any]:
    """A line of evaluations.jsonl."""
    base = {
        "task": "hellaswag", "metric": "acc_norm", "value": 0.2764, "stderr": 0.00446, "count": 10042, "unit": "questions",
        "num_fewshot": 0, "settings": {"limit": 0}, "model": "runs/a",
        "model_sha256": "", "data": "hellaswag.jsonl", "data_sha256": "d" * 64, "command": "gpt-kit eval runs/a --tasks hellaswag",
        "at": "2026-11-21 10:00:00 +0000", "gpt_kit": "0.1.0",
    }  # fmt: skip
    return {**base, **changes}


def losses(steps: int, first: float = 3.0) -> list[dict[str, Any]]:
    """Records of training at every step and of validation at every second, each loss its own."""
    records: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        seen = {"step": step, "tokens_seen": 100 * step}
        records.append({**seen, "train/loss": first / step**0.5 + 0.0123 * step, "tokens_per_second": 50.0})
        if step % 2 == 0:
            records.append({**seen, "val/loss": first / step**0.5 + 0.1})
    return records


def weights_hash(run: Path) -> str:
    """SHA-256 of the weights of its only checkpoint."""
    return sha256_of_file(next(run.glob("checkpoints/*/model.safetensors")))


def write_lines(path: Path, records: Iterable[Any]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


class Page(HTMLParser):
    """Parsed once; `elements` in order, `data` the values of <data>, `text` all there is to read."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.source = file.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.pieces: list[str] = []
        self.open: list[str] = []
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "line", "circle", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        """The attributes of every element of that kind that has these."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [found for name, found in self.elements if name == tag and wanted.items() <= found.items()]

    @property
    def data(self) -> list[float]:
        return [float(found["value"]) for found in self.all("data") if found["value"]]
