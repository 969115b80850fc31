"""Runs made by hand: the files that a report reads, with figures that every test knows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_runs import CONFIG, MakeRun, losses, write_lines

from gpt_kit.config import ModelConfig
from gpt_kit.files import write_json, write_manifest
from gpt_kit.model import GPTModel
from gpt_kit.tokenizers import train_tokenizer


@pytest.fixture
def make_run(tmp_path: Path, tiny_config: Callable[..., ModelConfig]) -> MakeRun:
    """Writes a run with a real model of 61 entries and the records and scores given; gives its folder."""
    tokenizer = train_tokenizer("char", ["".join(map(chr, range(33, 94)))])

    def make(name: str = "a", *, steps: int = 8, records: list[Any] | None = None, scores: list[Any] = (), config: str = CONFIG) -> Path:  # type: ignore[assignment]
        run = tmp_path / "runs" / name
        checkpoint = run / "checkpoints" / "step-00000008"
        checkpoint.mkdir(parents=True)
        (run / "config.toml").write_text(config.format(steps=steps), encoding="utf-8")
        write_json(run / "environment.json", {"gpt_kit": "0.1.0", "torch": "2.13.0", "processes": 1})
        write_lines(run / "metrics.jsonl", losses(8) if records is None else records)
        write_lines(run / "evaluations.jsonl", scores)
        (run / "samples.md").write_text("## step 8, validation loss 1.2\n\n````text\nOnce\n````\n", encoding="utf-8")
        GPTModel(tiny_config(vocab_size=tokenizer.vocab_size)).save_pretrained(checkpoint)
        tokenizer.save(checkpoint)
        write_json(checkpoint / "training_state" / "state.json", {"step": 8, "data_order": {"corpus": "c" * 64}})
        write_manifest(checkpoint)
        (run / "checkpoints" / "best").write_text(checkpoint.name, encoding="utf-8")
        return run

    return make
