"""What a run will take, before it is started: from counts, and from a probe of some seconds on the real device with the real batch.

Memory at its highest point is the sum of

    process      interpreter, torch and the open text, before there is a model: measured
    weights, gradients, optimizer, activations    counted tensor by tensor (memory_probe.py); only activations grow with the micro-batch
    heap         gaps between blocks and scratch inside kernels: what real steps took beyond the count, as a share of it. On a CPU
                 freed memory stays with the process (runtime/memory.py), so gaps add up; on a card this is next to nothing

and time is that of the parts which the trainer has: steps · (passes · one pass + one update), windows evaluated · one forward pass,
samples, checkpoints, start and end. A step with one micro-batch and a step with two are timed; their difference is a pass.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from gpt_kit.config import RunConfig
from gpt_kit.data import Batch
from gpt_kit.evaluation import evaluate_loss
from gpt_kit.files import atomic_folder, write_tensors
from gpt_kit.generation import generate_text_autoregressive
from gpt_kit.model import GPTModel
from gpt_kit.runtime import Precision, free_memory, peak_memory, used_memory
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


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryPlan:
    """Bytes at the highest point, by part."""

    process: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    heap: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, part.name) for part in fields(self))


@dataclass(frozen=True, kw_only=True, slots=True)
class TimePlan:
    """Seconds, by part."""

    once: float
    """Start and end."""
    training: float
    evaluation: float
    samples: float
    saving: float

    @property
    def total(self) -> float:
        """All of it."""
        return float(sum(getattr(self, part.name) for part in fields(self)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Events:
    """How often the trainer does what takes time beside the steps."""

    evaluations: int
    windows: int
    """Windows that one evaluation reads."""
    last_windows: int
    """Windows that the last one reads on top: the whole validation text; 0 where each reads all of it."""
    saves: int
    """Checkpoints at most: as if every evaluation were the best so far."""


def count_events(config: RunConfig, windows: int, whole_windows: int) -> Events:
    """Evaluations and checkpoints of a run whose evaluations read `windows`, and the last one `whole_windows` on top."""
    last, each, interval = config.training.max_steps, config.evaluation.interval, config.checkpoints.interval
    evaluated = {*range(each, last, each), last} if windows else set()
    saved = {last, *evaluated, *(range(interval, last, interval) if interval else ())}
    return Events(evaluations=len(evaluated), windows=windows, last_windows=whole_windows, saves=len(saved))


def plan_memory(counted: StepMemory, measured: Measured | None, probed: StepMemory, process: int) -> MemoryPlan:
    """Memory of steps that take `counted`, given that steps which take `probed` made the process grow as measured.

    Where nothing could be measured, the process is as it is now, and the heap takes what it usually does.
    """
    heap_share = max(0.0, measured.grown / probed.total - 1) if measured else HEAP_ALLOWANCE - 1
    return MemoryPlan(
        process=measured.process if measured else process,
        weights=counted.weights,
        gradients=counted.gradients,
        optimizer=counted.optimizer,
        activations=counted.activations,
        heap=round(heap_share * counted.total),
    )


def plan_time(config: RunConfig, measured: Measured, events: Events, checkpoint_bytes: int, start: float) -> TimePlan:
    """Time of the run; `start` is what came before the model was built."""
    training = config.training
    step = measured.step + (training.batch_size / measured.rows - 1) * measured.further_pass
    sampled = events.evaluations * config.evaluation.sample_tokens
    predicted = events.evaluations * measured.rows if sampled else 0  # windows for the table beside each sample
    windows = events.evaluations * events.windows + events.last_windows + predicted
    return TimePlan(
        once=start + measured.once,
        training=training.max_steps * step,
        evaluation=windows * measured.forward,
        samples=sampled * measured.token,
        saving=events.saves * checkpoint_bytes * measured.save_byte,
    )


def probe(
    config: RunConfig,
    batch: Batch,
    rows: int,
    count: Callable[[int], StepMemory],
    *,
    precision: Precision,
    device: torch.device,
    compiled: bool,
    folder: Path,
) -> Measured | None:
    """Some seconds of the run on a model that is thrown away, in micro-batches of `rows` windows, or fewer where those take too long.

    `count(rows)` gives a step's memory; checkpoints are tried out in `folder`. None where not even one window would fit.
    """
    process, room = used_memory(device), free_memory(device)
    if HEAP_ALLOWANCE * count(1).total > room:
        return None
    started = time.perf_counter()
    model = GPTModel(config.model).to(device).train()
    model.activation_checkpointing = config.training.activation_checkpointing
    optimizers = Optimizers(model, config.training, device)
    optimizers.set_learning_rate_share(0.0)  # speed does not depend on it, and no weight moves
    if compiled:
        for block in model.blocks:
            block.compile()
    build = time.perf_counter() - started

    def step(windows: int, passes: int = 1) -> float:
        before = time.perf_counter()
        micro_batches = [batch.split(windows)[0]] * passes
        optimizer_step(model, optimizers, micro_batches, max_grad_norm=1.0, precision=precision, device=device)
        return time.perf_counter() - before

    first, one = step(1), step(1)
    while rows > 1 and (rows * one > LONGEST_STEP or HEAP_ALLOWANCE * count(rows).total > room):
        rows //= 2
    first_of_many = step(rows)
    usual = _median(lambda: step(rows))
    several = config.training.batch_size > rows
    further = max(_median(lambda: step(rows, passes=2)) - usual, 0.0) if several else 0.0
    part = batch.split(rows)[0]
    forward = _median(lambda: _seconds(lambda: evaluate_loss(model, [part], precision=precision, device=device))) / rows
    start_id = torch.zeros(1, 1, dtype=torch.int64, device=device)
    sampling = _seconds(lambda: generate_text_autoregressive(model, start_id, SAMPLE_TOKENS, temperature=0.8, top_k=50))
    return Measured(
        rows=rows,
        process=process,
        once=build + max(0.0, first - one) + max(0.0, first_of_many - usual) + _seconds_of_drawing(folder),
        step=usual,
        further_pass=further,
        forward=forward,
        token=sampling / SAMPLE_TOKENS,
        save_byte=_seconds_per_saved_byte(folder, model, optimizers),
        grown=peak_memory(device) - process,
    )


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
