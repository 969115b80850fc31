"""What a run will take, before it is started: from counts, and from a probe of some seconds (probing.py).

Memory at its highest point is the sum of

    process      interpreter, torch and the open text, before there is a model: measured
    batch        ids of a batch beyond those that the probe read: nothing, but for batches of many thousand windows
    weights, gradients, optimizer, activations    counted tensor by tensor (memory_probe.py); only activations grow with the micro-batch
    heap         gaps between blocks and scratch inside kernels: what real steps took beyond the count, as a share of it. On a CPU
                 freed memory stays with the process (runtime/memory.py), so gaps add up; on a card this is next to nothing

and time is that of the parts which the trainer has: steps · (passes · one pass + one update), windows evaluated · one forward pass,
samples, checkpoints, start and end. A step with one micro-batch and a step with two are timed; their difference is a pass.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from gpt_kit.config import RunConfig
from gpt_kit.training.fitting import HEAP_ALLOWANCE
from gpt_kit.training.memory_probe import StepMemory
from gpt_kit.training.probing import Measured


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryPlan:
    """Bytes at the highest point, by part."""

    process: int
    batch: int
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


def plan_memory(counted: StepMemory, measured: Measured | None, probed: StepMemory, *, process: int, batch: int = 0) -> MemoryPlan:
    """Memory of steps that take `counted`, given that steps which take `probed` made the process grow as measured.

    Where nothing could be measured, the process is as it is now (`process`), and the heap takes what it usually does.
    """
    heap_share = max(0.0, measured.grown / probed.total - 1) if measured else HEAP_ALLOWANCE - 1
    return MemoryPlan(
        process=measured.process if measured else process,
        batch=batch,
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
