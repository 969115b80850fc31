"""`samples.md`: what the model writes at each evaluation, and what it expects next in a piece of validation text."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from gpt_kit.config import EvaluationConfig
from gpt_kit.data import Batches
from gpt_kit.evaluation import predict_batch, predictions_as_markdown
from gpt_kit.files import full_disk_explained, write_atomically
from gpt_kit.generation import Sampling, generate_text
from gpt_kit.model import GPTModel
from gpt_kit.runtime import without_compiling
from gpt_kit.tokenizers import Tokenizer

SampleWriter = Callable[[Path, EvaluationConfig, GPTModel, Batches, Tokenizer, int, float], None]
SEED = 1  # samples of different steps differ by the model alone
POSITIONS = 12  # of the table of predictions


def write_sample(
    run: Path,
    settings: EvaluationConfig,
    model: GPTModel,
    batches: Batches,
    tokenizer: Tokenizer,
    step: int,
    val_loss: float,
) -> None:
    """Append a section for `step` to RUN/samples.md. Raises: DiskFullError."""
    sampling = Sampling(temperature=0.8, top_k=50)
    with without_compiling():  # each length of text would be compiled anew
        text = generate_text(model, tokenizer, settings.prompt, settings.sample_tokens, sampling=sampling, seed=SEED)
    table = predictions_as_markdown(predict_batch(model, next(iter(batches)), tokenizer, model.device, positions=POSITIONS))
    path, fence = run / "samples.md", "````"
    with full_disk_explained(path), open(path, "a", encoding="utf-8") as file:
        file.write(f"## step {step}, validation loss {val_loss:.3f}\n\n{fence}text\n{settings.prompt}{text}\n{fence}\n\n{table}\n\n")


def drop_samples_after(run: Path, step: int) -> None:
    """Keep only the sections up to `step` of RUN/samples.md."""
    file = run / "samples.md"
    if file.exists():
        sections = re.split(r"(?m)^(?=## step \d+, )", file.read_text(encoding="utf-8", errors="replace"))
        write_atomically(file, "".join(text for text in sections if _step_of(text) <= step))


def _step_of(section: str) -> int:
    heading = re.match(r"## step (\d+), ", section)
    return int(heading[1]) if heading else 0  # words of somebody's own
