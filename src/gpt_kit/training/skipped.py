"""Batches whose update was skipped, written out so that somebody can look at what the model choked on."""

from __future__ import annotations

from pathlib import Path

from gpt_kit.data import Batch
from gpt_kit.files import write_json
from gpt_kit.model import IGNORE_INDEX
from gpt_kit.tokenizers import Tokenizer
from gpt_kit.training.step import StepReport


def write_skipped_batch(run: Path, step: int, report: StepReport, batch: Batch, tokenizer: Tokenizer) -> Path:
    """Write RUN/skipped/step-NNNNNNNN.json: the figures, and every window as ids and as text. Raises: DiskFullError."""
    pairs = zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True)
    rows = [[*inputs, *(target for target in targets[-1:] if target != IGNORE_INDEX)] for inputs, targets in pairs]
    file = run / "skipped" / f"step-{step:08d}.json"
    write_json(
        file,
        {
            "step": step,
            "why": report.skipped,
            "loss": str(report.loss),  # as text: JSON knows neither NaN nor infinity
            "grad_norm": str(report.grad_norm),
            "windows": [{"text": tokenizer.decode(ids), "token_ids": ids} for ids in rows],
        },
    )
    return file
