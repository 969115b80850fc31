"""What a report knows of one run, and what follows from it."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt_kit.evaluation.report.scores import Score

KINDS = {"classify": "classification", "sft": "chat tuning", "training": "pre-training"}  # by the section of config.toml, rarest first
VERBS = {"classification": "finetune classify", "chat tuning": "finetune sft", "pre-training": "train"}
WEIGHTS = ("model.safetensors", "adapter_model.safetensors")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(kw_only=True)
class RunFacts:
    """One run, or one model's folder, as it lies on disk."""

    name: str
    folder: Path
    number: int = 0
    """Its place in the report, from 1."""
    config: dict[str, Any] = field(default_factory=dict)
    """config.toml, section by section."""
    config_text: str = ""
    environment: dict[str, Any] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)
    """metrics.jsonl."""
    checkpoint: Path | None = None
    """The best one, or the model's folder itself."""
    state: dict[str, Any] = field(default_factory=dict)
    """training_state/state.json of that checkpoint."""
    manifest: dict[str, str] = field(default_factory=dict)
    """SHA-256 by file, compared with the files."""
    shape: dict[str, int] = field(default_factory=dict)
    """n_layer, n_embd, n_head, context, vocabulary."""
    parameters: int | None = None
    """Numbers in the file of weights."""
    tokenizer: str = ""
    corpus: dict[str, Any] = field(default_factory=dict)
    """What corpus.json says of `train` and `val`, where the text lies prepared."""
    scores: list[Score] = field(default_factory=list)
    sample: str = ""
    """What it wrote last, by samples.md."""
    picture: bytes = b""
    """confusion.png of a classifier."""
    problems: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """What the run did: pre-training, chat tuning (LoRA), …; `model` or `scores` for what is no run."""
        if self.folder.is_file():
            return "scores"
        kind = next((kind for section, kind in KINDS.items() if section in self.config), "model")
        return f"{kind} (LoRA)" if self.config.get("lora", {}).get("rank") else kind

    @property
    def step(self) -> int:
        """Steps done, by the last record."""
        return max((int(record["step"]) for record in self.records), default=int(self.state.get("step", 0)))

    @property
    def tokens_seen(self) -> int:
        """Tokens read in training, by the last record."""
        return max((int(record["tokens_seen"]) for record in self.records), default=int(self.state.get("tokens_seen", 0)))

    @property
    def status(self) -> str:
        """finished, or how far it came; empty for what is no run."""
        if not self.config:
            return ""
        wanted = self.config.get("training", {}).get("max_steps")
        if not isinstance(wanted, int) or self.step < wanted:
            return f"unfinished: step {self.step:,}" + (f" of {wanted:,}" if isinstance(wanted, int) else "")
        return "finished" if self.checkpoint else "finished, without a sound checkpoint"

    @property
    def best(self) -> tuple[float, int] | None:
        """The lowest validation loss in nats per token, and its step."""
        return min(((record["val/loss"], record["step"]) for record in self.records if record.get("val/loss") is not None), default=None)

    @property
    def bytes_per_token(self) -> float | None:
        """Of the validation text; what makes losses of different tokenizers comparable."""
        side = self.corpus.get("val", {"tokens": 0, "bytes": 0})
        return side["bytes"] / side["tokens"] if side["tokens"] and side["bytes"] else None

    @property
    def best_bits_per_byte(self) -> float | None:
        """The same in bits per byte of text: of the whole validation text, where it was measured at that step."""
        if self.best is None or self.bytes_per_token is None:
            return None
        whole = [record["val/whole_loss"] for record in self.records if record["step"] == self.best[1] and "val/whole_loss" in record]
        return (whole[-1] if whole else self.best[0]) / math.log(2) / self.bytes_per_token

    @property
    def seconds(self) -> float:
        """Spent in training, by the speeds that were recorded."""
        timed = [record for record in self.records if record.get("tokens_per_second")]
        before = [0, *(record["tokens_seen"] for record in timed)]
        return float(sum((record["tokens_seen"] - seen) / record["tokens_per_second"] for record, seen in zip(timed, before, strict=False)))

    @property
    def weights(self) -> tuple[str, str] | None:
        """The file of weights of the best checkpoint, and its SHA-256."""
        return next(((name, self.manifest[name]) for name in WEIGHTS if name in self.manifest), None)

    @property
    def data_hashes(self) -> dict[str, str]:
        """SHA-256 of the data, by what it is: those that the checkpoint keeps, to go on with the same."""
        order = self.state.get("data_order") or {}
        return {name: value for name, value in order.items() if isinstance(value, str) and _SHA256.fullmatch(value)}

    @property
    def text(self) -> str:
        """What it was trained on, as its settings say."""
        section = next((name for name in KINDS if name in self.config), "")
        places = (self.config.get(section, {}).get("data"), self.config.get("data", {}).get("source"))
        return next((str(place) for place in places if place), "")

    @property
    def base(self) -> str:
        """The model it went on from; empty where it began anew."""
        section = next((name for name in KINDS if name in self.config), "")
        return str(self.config.get(section, {}).get("base") or "")

    @property
    def command(self) -> str:
        """What repeats the run, from its own settings; empty where there are none."""
        verb = VERBS.get(self.kind.removesuffix(" (LoRA)"))
        if verb is None:
            return ""
        processes = self.environment.get("processes", 1)
        start = "gpt-kit" if not isinstance(processes, int) or processes == 1 else f"torchrun --nproc-per-node={processes} -m gpt_kit"
        return f"{start} {verb} --config {shlex.quote(str(self.folder / 'config.toml'))} --out {shlex.quote(f'{self.folder}-again')}"
