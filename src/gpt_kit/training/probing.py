"""Some seconds of a run on the real device with the real batch, on a model that is thrown away: how long things take, and what they use."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from gpt_kit.config import RunConfig
from gpt_kit.data import Batch
from gpt_kit.evaluation import evaluate_loss
from gpt_kit.files import atomic_folder, write_tensors
from gpt_kit.generation import generate_text_autoregressive
from gpt_kit.model import GPTModel
from gpt_kit.runtime import Precision, peak_memory, used_memory
from gpt_kit.training.curves import draw_loss_png
from gpt_kit.training.fitting import HEAP_ALLOWANCE
from gpt_kit.training.memory_probe import StepMemory
from gpt_kit.training.metrics import Record
from gpt_kit.training.optimizers import Optimizers
from gpt_kit.training.step import optimizer_step

LONGEST_STEP = 8.0  # seconds: a micro-batch that would take longer is probed with fewer windows
TIMED_SECONDS, FEWEST_TIMED, MOST_TIMED = 3.0, 2, 30  # steps of each kind, after one to warm up
SAMPLE_TOKENS = 16  # a sample is measured on so many tokens …
SAVED_BYTES = 256 * 2**20  # … and a checkpoint on so many bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What the probe saw. Times in seconds."""

    rows: int
    """Windows in the micro-batches that were timed."""
    process: int
    """Bytes that the process used before there was a model."""
    grown: int
    """Bytes that it used more at the highest point."""
    once: float
    """Building model and optimizer, what the first steps took longer than later ones, and drawing the curve at the end."""
    step: float
    """One step of one micro-batch."""
    further_pass: float
    """Each further micro-batch of a step."""
    forward: float
    """The forward pass of one window, in evaluation."""
    token: float
    """One token of a sample."""
    save_byte: float
    """One byte of a checkpoint, hashed and on the disk."""


def probe(
    config: RunConfig,
    batch: Batch,
    rows: int,
    count: Callable[[int], StepMemory],
    *,
    room: int,
    precision: Precision,
    device: torch.device,
    compiled: bool,
    folder: Path,
) -> Measured | None:
    """Try the run in micro-batches of `rows` windows, or fewer where those take too long or might not fit into `room` bytes.

    `count(rows)` gives a step's memory; checkpoints are tried out in `folder`. None where the run cannot fit: then nothing is tried.
    """
    if count(rows).total > room or HEAP_ALLOWANCE * count(1).total > room:
        return None
    process = used_memory(device)
    started = time.perf_counter()
    trial = _Trial(config, batch, precision, device, compiled)
    build = time.perf_counter() - started
    first, one = trial.step(1), trial.step(1)
    rows = min(rows, len(batch.inputs))
    while rows > 1 and (rows * one > LONGEST_STEP or HEAP_ALLOWANCE * count(rows).total > room):
        rows //= 2
    first_of_many = trial.step(rows)
    usual = _median(lambda: trial.step(rows))
    several = config.training.batch_size > rows
    return Measured(
        rows=rows,
        process=process,
        once=build + max(0.0, first - one) + max(0.0, first_of_many - usual) + _seconds_of_drawing(folder),
        step=usual,
        further_pass=max(_median(lambda: trial.step(rows, passes=2)) - usual, 0.0) if several else 0.0,
        forward=_median(lambda: trial.evaluation(rows)) / rows,
        token=trial.sample() / SAMPLE_TOKENS,
        save_byte=_seconds_per_saved_byte(folder, trial.model, trial.optimizers),
        grown=peak_memory(device) - process,
    )


class _Trial:
    """A model of this run, and what it takes in seconds to use it."""

    def __init__(self, config: RunConfig, batch: Batch, precision: Precision, device: torch.device, compiled: bool) -> None:
        self.batch, self.precision, self.device = batch, precision, device
        self.model = GPTModel(config.model).to(device).train()
        self.model.activation_checkpointing = config.training.activation_checkpointing
        self.optimizers = Optimizers(self.model, config.training, device)
        self.optimizers.set_learning_rate_share(0.0)  # speed does not depend on it, and no weight moves
        if compiled:
            for block in self.model.blocks:
                block.compile()

    def step(self, rows: int, passes: int = 1) -> float:
        parts = [self.batch.split(rows)[0]] * passes
        return _seconds(
            lambda: optimizer_step(self.model, self.optimizers, parts, max_grad_norm=1.0, precision=self.precision, device=self.device)
        )

    def evaluation(self, rows: int) -> float:
        part = self.batch.split(rows)[0]
        return _seconds(lambda: evaluate_loss(self.model, [part], precision=self.precision, device=self.device))

    def sample(self) -> float:
        start_id = torch.zeros(1, 1, dtype=torch.int64, device=self.device)
        return _seconds(lambda: generate_text_autoregressive(self.model, start_id, SAMPLE_TOKENS, temperature=0.8, top_k=50))


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _median(timed: Callable[[], float]) -> float:
    times: list[float] = []
    while len(times) < FEWEST_TIMED or (sum(times) < TIMED_SECONDS and len(times) < MOST_TIMED):
        times.append(timed())
    return statistics.median(times)


def _seconds_of_drawing(folder: Path) -> float:
    """The curve of a run, and loading what draws it."""
    records: list[Record] = [{"step": step, "tokens_seen": step, "train/loss": 1.0} for step in range(1, 100)]
    with tempfile.TemporaryDirectory(dir=folder, prefix=".plan-") as temporary:
        return _seconds(lambda: draw_loss_png(Path(temporary) / "loss.png", records, "plan"))


def _seconds_per_saved_byte(folder: Path, model: GPTModel, optimizers: Optimizers) -> float:
    """Part of a checkpoint, written as a checkpoint is."""
    tensors = {f"weights/{name}": tensor for name, tensor in model.exported_tensors().items()} | optimizers.state_tensors()
    chosen: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if sum(t.nbytes for t in chosen.values()) < SAVED_BYTES:
            chosen[name] = tensor
    with tempfile.TemporaryDirectory(dir=folder, prefix=".plan-") as temporary:
        started = time.perf_counter()
        with atomic_folder(Path(temporary) / "checkpoint") as inside:
            write_tensors(inside / "tensors.safetensors", chosen)
        return (time.perf_counter() - started) / sum(t.nbytes for t in chosen.values())
