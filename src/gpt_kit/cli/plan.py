"""`gpt-kit plan`: what a run will take, before it is started."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpt_kit.cli.train import TrainArguments, parse_settings, settings_of
from gpt_kit.config import RunConfig
from gpt_kit.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from gpt_kit.data import Batch
    from gpt_kit.training import Events, MemoryPlan, TimePlan

CHINCHILLA = 20  # training tokens per parameter where arithmetic is spent best (Hoffmann et al. 2022, table 3)
NEAR = 2.0  # within a factor of two of it the loss hardly differs (their figure 3)


@dataclass(frozen=True, kw_only=True)
class PlanArguments(TrainArguments):
    """Say what `gpt-kit train` with the same settings will take: memory, time, tokens and disk. Without --data, on made-up text."""

    cost_per_hour: float = 0.0
    """What this machine costs an hour, in any currency; 0 means that the cost is not told."""


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


def main(words: Sequence[str]) -> None:
    """Probe, and print the plan."""
    started = time.perf_counter()
    arguments = parse_settings(PlanArguments, "plan", words)
    if not 0 <= arguments.cost_per_hour < float("inf"):  # also false for NaN
        raise ConfigError(f"--cost-per-hour must be 0 or more; got {arguments.cost_per_hour}")
    config = settings_of(arguments)

    from gpt_kit.cli.display import console

    for title, text in describe(make_plan(config, started, arguments.out), arguments.cost_per_hour):
        console.print(f"{title:<12}{text}")


def make_plan(config: RunConfig, started: float, out: Path | None = None) -> Plan:
    """Probe the run that `config` asks for. `started` is time.perf_counter() when the command began; checkpoints would go to `out`."""
    from gpt_kit.cli.runs import compile_wanted
    from gpt_kit.model import count_model
    from gpt_kit.runtime import ALONE, choose_device, choose_precision, free_memory, keep_freed_memory, seed_everything, used_memory
    from gpt_kit.training import (
        StepMemory,
        affordable_rows,
        count_events,
        micro_batch_rows,
        plan_memory,
        plan_time,
        probe,
        step_memory,
        with_fitting_micro_batch,
    )

    keep_freed_memory()
    device = choose_device(config.training.device)
    precision = choose_precision(config.training.precision, device)
    seed_everything(config.training.seed)
    config, batch, corpus_tokens, windows, last_windows = _text(config, device)
    config = with_fitting_micro_batch(config, precision, device, ALONE)
    before_the_model = time.perf_counter() - started
    training, free = config.training, free_memory(device)

    @functools.cache
    def count(windows: int) -> StepMemory:
        return step_memory(config.model, training, windows, precision, device)

    rows = micro_batch_rows(config, device)
    measured = probe(
        config, batch, rows, count,
        precision=precision, device=device, compiled=compile_wanted(config, device), folder=_existing(out or Path("runs")),
    )  # fmt: skip
    memory = plan_memory(count(rows), measured, count(measured.rows) if measured else count(rows), used_memory(device))
    events = count_events(config, windows, last_windows)
    checkpoint_bytes = 4 * count_model(config.model).total_parameters + count(rows).optimizer
    return Plan(
        config=config,
        device=f"{precision.name} on {device}",
        rows=rows,
        corpus_tokens=corpus_tokens,
        memory=memory,
        free=free,
        largest_micro_batch=affordable_rows(config, precision, device, free),
        events=events,
        checkpoint_bytes=checkpoint_bytes,
        time=plan_time(config, measured, events, checkpoint_bytes, before_the_model) if measured else None,
    )


def _text(config: RunConfig, device: torch.device) -> tuple[RunConfig, Batch, int | None, int, int]:
    """The settings with the text's vocabulary, its first batch, its length, and how much an evaluation reads, the last one on top."""
    import torch

    from gpt_kit.cli.pretraining import evaluation_tokens, make_batches
    from gpt_kit.cli.text import open_or_prepare, with_vocabulary
    from gpt_kit.data.batches import make_batch

    length, rows = config.model.max_position_embeddings, config.training.batch_size
    if not config.data.source:
        ids = torch.randint(0, config.model.vocab_size, (rows, length + 1))
        return config, make_batch(ids.numpy()), None, -(-evaluation_tokens(config) // (config.evaluation.stride or length)), 0
    with tempfile.TemporaryDirectory(prefix="gpt-kit-plan-") as temporary:
        corpus = open_or_prepare(config, Path(temporary))
        config = dataclasses.replace(config, model=with_vocabulary(config.model, corpus.tokenizer))
        train, val, whole = make_batches(config, corpus, device)
        windows, last_windows = (0 if part is None else -(-part.num_targets // part.stride) for part in (val, whole))
        return config, train.batch(0), len(corpus.train), windows, last_windows


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists: a plan leaves nothing behind."""
    return next(place for place in (folder, *folder.absolute().parents) if place.is_dir())


def describe(plan: Plan, cost_per_hour: float = 0.0) -> list[tuple[str, str]]:
    """The plan in words, line by line: what, and how much."""
    return [
        *_describe_learning(plan.config, plan.corpus_tokens),
        *_describe_memory(plan),
        *_describe_time(plan, cost_per_hour),
    ]


def _describe_learning(config: RunConfig, corpus_tokens: int | None) -> list[tuple[str, str]]:
    from gpt_kit.model import count_model
    from gpt_kit.training.watch import REPEATED_EPOCHS

    counts, training = count_model(config.model), config.training
    tokens = training.max_steps * training.batch_size * config.model.max_position_embeddings
    flops = counts.training_flops_per_token * tokens
    lines = [
        ("parameters", f"{counts.total_parameters:,}"),
        ("arithmetic", f"{counts.training_flops_per_token:.3g} FLOPs per token, {flops:.3g} in all"),
        ("tokens", f"{tokens:,} in {training.max_steps:,} steps: {_against_chinchilla(tokens, counts.total_parameters, flops)}"),
    ]
    if corpus_tokens is not None:
        passes = tokens / corpus_tokens
        remark = "" if passes <= REPEATED_EPOCHS else f". Beyond about {REPEATED_EPOCHS} passes, text teaches less each time"
        lines.append(("text", f"{passes:.2g} passes over {corpus_tokens:,} tokens{remark}"))
    return lines


def _against_chinchilla(tokens: int, parameters: int, flops: int) -> str:
    """What tokens per parameter mean, beside the balance of Hoffmann et al. 2022."""
    ratio = tokens / parameters
    said = f"{ratio:.2g} per parameter, where Chinchilla has {CHINCHILLA}. "
    if ratio < CHINCHILLA / NEAR:
        best = round((flops / 6 / CHINCHILLA) ** 0.5)  # 6 FLOPs per parameter and token (Kaplan et al. 2020)
        return said + f"The same arithmetic teaches more as about {best:,} parameters on {CHINCHILLA * best:,} tokens"
    if ratio <= CHINCHILLA * NEAR:
        return said + "Near the balance at which arithmetic is spent best"
    return said + "More than is best for training alone; the smaller model is cheaper to use"


def _describe_memory(plan: Plan) -> list[tuple[str, str]]:
    memory, training = plan.memory, plan.config.training
    parts = ", ".join(f"{part.name} {_size(getattr(memory, part.name))}" for part in dataclasses.fields(memory))
    lines = [("memory", f"{_size(memory.total)} at most, of {_size(plan.free)} free ({parts})")]
    largest = plan.largest_micro_batch
    if not largest:
        return [
            *lines,
            ("micro-batch", "not even one window fits: a smaller model or context, or --training.activation-checkpointing"),
        ]
    many = "the whole batch fits at once" if largest == training.batch_size else f"at most {largest:,} fit"
    lines.append(("micro-batch", f"{plan.rows:,} windows of a batch of {training.batch_size:,}; {many}"))
    return lines


def _describe_time(plan: Plan, cost_per_hour: float) -> list[tuple[str, str]]:
    events, keep = plan.events, plan.config.checkpoints.keep
    kept = min(events.saves, keep + 1) + 1
    lines = []
    if plan.time is not None:
        parts = {
            "once": "", "training": f" ({plan.time.training / plan.config.training.max_steps:.3g} s a step)",
            "evaluation": f" ({events.evaluations:,} times)", "samples": "", "saving": f" (at most {events.saves:,} times)",
        }  # fmt: skip
        shown = ", ".join(
            f"{'start and end' if name == 'once' else name} {_duration(getattr(plan.time, name))}{note}" for name, note in parts.items()
        )
        lines.append(("time", f"{_duration(plan.time.total)} in all, {plan.device}: {shown}"))
        if cost_per_hour:
            lines.append(("cost", f"{plan.time.total / 3600 * cost_per_hour:,.2f}, at {cost_per_hour:g} an hour"))
    lines.append(("disk", f"{_size(kept * plan.checkpoint_bytes)} at most: {kept} checkpoints of {_size(plan.checkpoint_bytes)}"))
    return lines


def _size(number: float) -> str:
    return f"{number / 1e9:,.2f} GB" if number >= 1e8 else f"{number / 1e6:,.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60:,} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes}:{rest:02d} min"
