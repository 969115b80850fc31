"""How a run may end before its last step: what happened, what is saved, how to go on."""

from __future__ import annotations

from pathlib import Path

from gpt_kit.config import Settings, TrainingConfig, command_of
from gpt_kit.errors import GPTKitError, RunStopped
from gpt_kit.runtime import stop_cause
from gpt_kit.training.checkpoint import TrainingState, checkpoint_folder
from gpt_kit.training.step import StepReport


def stopped(run: Path, config: Settings, step: int, signal_number: int) -> RunStopped:
    """By a signal, everything saved."""
    return RunStopped(
        f"stopped by {stop_cause(signal_number)} after step {step} of {config.training.max_steps}; everything is saved. "
        f"Go on with: {command_of(config)} --out {run} --resume auto",
        signal_number,
    )


def diverged(run: Path, state: TrainingState, config: TrainingConfig, report: StepReport) -> GPTKitError:
    """By too many skipped updates in a row, saved as before them."""
    if report.skipped == "spike":
        what, advice = "stood out as a spike", "If the text has changed its kind, go on with --training.no-skip-spikes; otherwise"
    else:
        what, advice = "was not finite", "The learning rate is probably too high:"
    # The weights just saved are those from before these updates, but they are also the ones that led here.
    best = f"go on from the best checkpoint, with --resume {checkpoint_folder(run, state.best_step)}" if state.best_step else "start again"
    return GPTKitError(
        f"loss or gradient {what} {state.skipped_updates} times in a row, so the run stopped at step {state.step}. Those updates changed "
        f"nothing, and the weights are saved; their batches lie in {run / 'skipped'}. {advice} {best} and a lower "
        f"--training.learning-rate, such as {config.learning_rate / 3:.2g}"
    )


def out_of_memory(run: Path, config: Settings, step: int, rows: int, fitting: int | None) -> GPTKitError:
    """By short memory; `fitting` windows would fit (0: none; None: not known, and nothing saved)."""
    what, smaller = f"out of memory in step {step + 1}, with a micro-batch of {rows} windows", "a smaller model or a shorter context"
    go_on = f"{command_of(config)} --out {run} --resume auto"
    if fitting is None:
        again = f"Go on from the last checkpoint with: {go_on}" if step else "Start again with"
        return GPTKitError(f"{what}. {again} --micro-batch {max(1, rows // 2)}; or try {smaller}")
    if fitting == 0:
        return GPTKitError(f"{what}; not even one fits. Everything is saved. Try --training.activation-checkpointing, {smaller}")
    return GPTKitError(
        f"{what}; {fitting} would fit, and give the same result. Everything is saved. Go on with: {go_on} --micro-batch {fitting}"
    )
