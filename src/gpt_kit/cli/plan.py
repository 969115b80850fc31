"""`gpt-kit plan`: what a run will take, before it is started."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpt_kit.cli.train import TrainArguments, parse_settings, settings_of
from gpt_kit.config import RunConfig
from gpt_kit.errors import ConfigError

if TYPE_CHECKING:
    from gpt_kit.cli.planning import Plan

CHINCHILLA = 20  # training tokens per parameter where arithmetic is spent best (Hoffmann et al. 2022, table 3)
NEAR = 2.0  # within a factor of two of it the loss hardly differs (their figure 3)


@dataclass(frozen=True, kw_only=True)
class PlanArguments(TrainArguments):
    """Say what `gpt-kit train` with the same settings will take: memory, time, tokens and disk. Without --data, on made-up text."""

    cost_per_hour: float = 0.0
    """What this machine costs an hour, in any currency; 0 means that the cost is not told."""


def main(words: Sequence[str]) -> None:
    """Probe, and print the plan."""
    started = time.perf_counter()
    arguments = parse_settings(PlanArguments, "plan", words)
    if not 0 <= arguments.cost_per_hour < float("inf"):  # also false for NaN
        raise ConfigError(f"--cost-per-hour must be 0 or more; got {arguments.cost_per_hour}")
    config = settings_of(arguments)

    from gpt_kit.cli.display import console
    from gpt_kit.cli.planning import make_plan

    for title, text in describe(make_plan(config, started, arguments.out), arguments.cost_per_hour):
        console.print(f"{title:<12}{text}")


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
    memory = plan.memory
    sizes = {part.name: getattr(memory, part.name) for part in dataclasses.fields(memory)}
    parts = ", ".join(f"{name} {_size(size)}" for name, size in sizes.items() if size or name != "batch")
    return [("memory", f"{_size(memory.total)} at most, of {_size(plan.free)} free ({parts})"), _describe_batch(plan)]


def _describe_batch(plan: Plan) -> tuple[str, str]:
    """What fits into memory at once, and what does not."""
    memory, largest, batch_size = plan.memory, plan.largest_micro_batch, plan.config.training.batch_size
    if memory.batch > plan.free:
        room = batch_size * plan.free // memory.batch
        return "batch", f"{batch_size:,} windows do not fit, even without a model: --training.batch-size below {room:,}"
    if not largest:
        return "micro-batch", "not even one window fits: a smaller model or context, or --training.activation-checkpointing"
    if plan.rows > largest:
        fitting = f"at most {largest:,} fit, and give the same result: --micro-batch {largest}"
        return "micro-batch", f"{plan.rows:,} windows are too many; {fitting}"
    most = "the whole batch fits at once" if largest == batch_size else f"at most {largest:,} fit"
    return "micro-batch", f"{plan.rows:,} windows of a batch of {batch_size:,}; {most}"


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
