"""RunConfig -> what the run will take: its text opened, its model counted and probed, nothing left behind."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from gpt_kit.cli.pretraining import evaluation_tokens, make_batches
from gpt_kit.cli.runs import compile_wanted
from gpt_kit.cli.text import open_or_prepare, with_vocabulary
from gpt_kit.config import RunConfig
from gpt_kit.data import Batch
from gpt_kit.data.batches import make_batch
from gpt_kit.model import count_model
from gpt_kit.runtime import ALONE, choose_device, choose_precision, free_memory, seed_everything, tune_memory, used_memory
from gpt_kit.training import (
    Events,
    MemoryPlan,
    StepCounter,
    TimePlan,
    affordable_rows,
    count_events,
    micro_batch_rows,
    plan_memory,
    plan_time,
    probe,
    with_fitting_micro_batch,
)

PROBED_TOKENS = 2**18  # of a batch that has more, only so many are read: a step of the probe takes no more
BYTES_PER_TOKEN = 16  # of a batch: id and target


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What was found out about a run."""

    config: RunConfig
    device: str
    """Precision and device, in words."""
    rows: int
    """Windows in a micro-batch."""
    corpus_tokens: int | None
    """Tokens of the training text; None where there is no text."""
    memory: MemoryPlan
    free: int
    """Bytes of memory that are free."""
    largest_micro_batch: int
    events: Events
    checkpoint_bytes: int
    time: TimePlan | None
    """None where the run does not fit, so that nothing could be measured."""


def make_plan(config: RunConfig, started: float, out: Path | None = None) -> Plan:
    """Probe the run that `config` asks for. `started` is time.perf_counter() when the command began; checkpoints would go to `out`."""
    tune_memory()
    device = choose_device(config.training.device)
    precision = choose_precision(config.training.precision, device)
    seed_everything(config.training.seed)
    config, batch, corpus_tokens, windows, last_windows = _text(config, device)
    config = with_fitting_micro_batch(config, precision, device, ALONE)
    before_the_model = time.perf_counter() - started
    free, unread = free_memory(device), _unread_bytes(config, batch, device)
    count = StepCounter(config.model, config.training, precision, device)
    rows = micro_batch_rows(config, device)
    measured = probe(
        config, batch, rows, count, room=free - unread,
        precision=precision, device=device, compiled=compile_wanted(config, device), folder=_existing(out or Path("runs")),
    )  # fmt: skip
    probed = count(measured.rows if measured else rows)
    events = count_events(config, windows, last_windows)
    checkpoint_bytes = 4 * count_model(config.model).total_parameters + count(1).optimizer
    return Plan(
        config=config,
        device=f"{precision.name} on {device}",
        rows=rows,
        corpus_tokens=corpus_tokens,
        memory=plan_memory(count(rows), measured, probed, process=used_memory(device), batch=unread),
        free=free,
        largest_micro_batch=affordable_rows(count, config.training.batch_size, free - unread),
        events=events,
        checkpoint_bytes=checkpoint_bytes,
        time=plan_time(config, measured, events, checkpoint_bytes, before_the_model) if measured else None,
    )


def _text(config: RunConfig, device: torch.device) -> tuple[RunConfig, Batch, int | None, int, int]:
    """The settings with the text's vocabulary, a batch, the text's length, and how much an evaluation reads, the last one on top."""
    length, whole = config.model.max_position_embeddings, config.training.batch_size
    parts = -(-whole * length // PROBED_TOKENS)
    if not config.data.source:
        ids = torch.randint(0, config.model.vocab_size, (-(-whole // parts), length + 1))
        return config, make_batch(ids.numpy()), None, -(-evaluation_tokens(config) // (config.evaluation.stride or length)), 0
    with tempfile.TemporaryDirectory(prefix="gpt-kit-plan-") as temporary:
        corpus = open_or_prepare(config, Path(temporary))
        config = dataclasses.replace(config, model=with_vocabulary(config.model, corpus.tokenizer))
        train, val, whole_val = make_batches(config, corpus, device)
        windows, last_windows = (0 if part is None else -(-part.num_targets // part.stride) for part in (val, whole_val))
        return config, train.batch(0, 0, parts), len(corpus.train), windows, last_windows


def _unread_bytes(config: RunConfig, batch: Batch, device: torch.device) -> int:
    """What the rest of a batch would take beside the model; beside a card it lies elsewhere."""
    rest = config.training.batch_size - len(batch.inputs)
    return BYTES_PER_TOKEN * rest * config.model.max_position_embeddings if device.type == "cpu" else 0


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists: a plan leaves nothing behind."""
    return next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
