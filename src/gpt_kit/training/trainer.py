"""The training loop: it is handed finished parts, and owns only the order of events.

    evaluate if due -> save if due -> stop if done or asked to -> one step -> again

Every decision is a function of the step alone, so a run that was stopped anywhere and resumed does the same things as one that was not.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from gpt_kit.config import RunConfig
from gpt_kit.data import EvaluationBatches, TrainingBatches
from gpt_kit.errors import GPTKitError, RunStopped
from gpt_kit.evaluation import evaluate_loss, predict_batch, predictions_as_markdown
from gpt_kit.files import write_atomically
from gpt_kit.generation import Sampling, generate_text
from gpt_kit.model import GPTModel
from gpt_kit.runtime import ALONE, Precision, StopRequest, World, without_compiling
from gpt_kit.tokenizers import Tokenizer
from gpt_kit.training.checkpoint import TrainingState, checkpoint_folder, point_to_best, prune_checkpoints, save_checkpoint
from gpt_kit.training.metrics import Observer, Record
from gpt_kit.training.optimizers import Optimizers
from gpt_kit.training.parallel import gathered
from gpt_kit.training.schedules import learning_rate_share
from gpt_kit.training.step import StepReport, optimizer_step
from gpt_kit.training.watch import Watch

MOST_SKIPPED_UPDATES = 5  # in a row; one is bad luck, five are a diverged run
SAMPLE_SEED = 1  # samples of different steps differ by the model alone


class _Stopped(Exception):
    """Leaves an evaluation that a stop request interrupts."""


@dataclass
class Trainer:
    """One run of pre-training into the folder `run`."""

    run: Path
    config: RunConfig
    model: GPTModel
    optimizers: Optimizers
    train_batches: TrainingBatches
    val_batches: EvaluationBatches | None
    """A fixed part of the validation text, the same at every evaluation."""
    whole_val_batches: EvaluationBatches | None
    """All of it, for the end; None where the fixed part is already all."""
    tokenizer: Tokenizer
    device: torch.device
    precision: Precision
    observers: list[Observer]
    state: TrainingState
    stop: StopRequest
    world: World = ALONE
    spread_model: nn.Module | None = None
    """What a step trains, where several processes share the model (parallel.py)."""
    watch: Watch = field(init=False)
    _saved_step: int = field(init=False)
    _seconds: float = field(init=False, default=0.0)
    """Spent in training since the last record."""
    _tokens: int = field(init=False, default=0)
    """Read since then."""

    def __post_init__(self) -> None:
        best = self.state.best_val_loss
        self.watch = Watch(self.model.config.vocab_size, self.config.training.warmup_steps, math.inf if best is None else best)
        self._saved_step = self.state.step

    def fit(self) -> TrainingState:
        """Train up to max_steps. Raises: RunStopped after saving, when asked to stop; GPTKitError when the loss stays not finite."""
        if self.world.is_main:
            self._drop_samples_of_another_past()
        self.model.train()
        try:
            while True:
                if self._is_evaluation_due():
                    self._evaluate()
                if self._is_checkpoint_due():
                    self.save()
                if self.state.step >= self.config.training.max_steps:
                    return self.state
                if self._asked_to_stop():
                    raise _Stopped
                self._step()
        except _Stopped:
            self.save()
            raise self._stopped_error() from None

    def save(self) -> None:
        """Write a checkpoint of this step, unless it is already there, and drop old ones."""
        if self._saved_step == self.state.step:
            return
        self._progress("saving")
        self.state.scaler = self.precision.scaler.state_dict()
        save_checkpoint(self.run, self.model, self.optimizers, self.state, self.tokenizer, self.world)
        if self.world.is_main:
            prune_checkpoints(self.run, self.config.checkpoints.keep, self.state.step, self.state.best_step)
        self._saved_step = self.state.step

    def _step(self) -> None:
        config, state = self.config.training, self.state
        started = time.perf_counter()
        self.optimizers.set_learning_rate_share(learning_rate_share(state.updates, config))
        self.world.seed_step(config.seed, state.step)
        batch = self.train_batches.batch(state.step, self.world.rank, self.world.size)
        report = optimizer_step(
            self.spread_model or self.model,
            self.optimizers,
            batch.split(config.micro_batch_size or config.batch_size),
            max_grad_norm=config.max_grad_norm,
            precision=self.precision,
            device=self.device,
            world=self.world,
        )
        seconds = time.perf_counter() - started
        state.step += 1
        state.updates += report.updated
        state.tokens_seen += self.train_batches.tokens_per_batch
        state.elapsed_seconds += seconds
        self._seconds += seconds
        self._tokens += self.train_batches.tokens_per_batch
        self._progress("training")
        self._tell(report)

    def _tell(self, report: StepReport) -> None:
        state, interval = self.state, self.config.logging.interval
        if report.updated:
            state.skipped_updates = 0
        elif self.precision.scaler.get_scale() <= 1:  # above that, fp16 is still looking for a loss scale that fits
            state.skipped_updates += 1
        remarks = self.watch.after_step(state.step, report.loss, self.train_batches.epoch_of(state.step))
        if not report.updated:
            remarks = self.watch.after_skipped_update(state.step)
        self._say(remarks)
        if state.step % interval == 0 or state.step in (1, self.config.training.max_steps) or not report.updated:
            self._record(
                {
                    "train/loss": report.loss,
                    "learning_rate": self.optimizers.learning_rate,
                    "grad_norm": report.grad_norm,
                    "epoch": self.train_batches.epoch_of(state.step),
                    "tokens_per_second": self._tokens / self._seconds,
                }
            )
            self._seconds, self._tokens = 0.0, 0
        if state.skipped_updates >= MOST_SKIPPED_UPDATES:
            self.save()
            raise self._diverged_error()

    def _evaluate(self) -> None:
        assert self.val_batches is not None
        state, last = self.state, self.state.step >= self.config.training.max_steps
        val_loss = self._loss_over(self.val_batches)
        record = {"val/loss": val_loss}
        if last and self.whole_val_batches is not None:
            record["val/whole_loss"] = self._loss_over(self.whole_val_batches)
        if self.config.evaluation.sample_tokens:
            self._write_sample(val_loss)
        state.evaluated_step = state.step
        if math.isfinite(val_loss) and (state.best_val_loss is None or val_loss < state.best_val_loss):
            state.best_val_loss, state.best_step = val_loss, state.step
            if self.world.is_main:
                point_to_best(self.run, state.best_step)  # where this step was saved before it was evaluated: stopped, then resumed
        self._record(record)
        self._say(self.watch.after_evaluation(state.step, val_loss))

    def _loss_over(self, batches: EvaluationBatches) -> float:
        number_of_batches = len(batches)

        def progress(number: int) -> None:
            if self._asked_to_stop():
                raise _Stopped
            self._progress(f"validating {min(100, 100 * number // number_of_batches)} %")

        return evaluate_loss(self.model, batches, precision=self.precision, device=self.device, progress=progress, world=self.world).mean

    def _write_sample(self, val_loss: float) -> None:
        self._progress("sampling")
        model = gathered(self.model, self.world)
        if not self.world.is_main:
            return
        settings = self.config.evaluation
        sampling = Sampling(temperature=0.8, top_k=50)
        with without_compiling():  # each length of text would be compiled anew
            text = generate_text(model, self.tokenizer, settings.prompt, settings.sample_tokens, sampling=sampling, seed=SAMPLE_SEED)
        assert self.val_batches is not None
        table = predictions_as_markdown(predict_batch(model, next(iter(self.val_batches)), self.tokenizer, self.device, positions=12))
        with open(self.run / "samples.md", "a", encoding="utf-8") as file:
            fence = "````"
            file.write(
                f"## step {self.state.step}, validation loss {val_loss:.3f}\n\n{fence}text\n{settings.prompt}{text}\n{fence}\n\n{table}\n\n"
            )

    def _drop_samples_of_another_past(self) -> None:
        """Samples from after the last evaluation that counts, where the run went back to an earlier checkpoint."""
        file = self.run / "samples.md"
        if file.exists():
            sections = re.split(r"(?m)^(?=## step \d+, validation loss )", file.read_text(encoding="utf-8"))
            kept = [text for text in sections if text and int(text.split()[2].rstrip(",")) <= self.state.evaluated_step]
            write_atomically(file, "".join(kept))

    def _is_evaluation_due(self) -> bool:
        step, last = self.state.step, self.config.training.max_steps
        due = step > 0 and (step % self.config.evaluation.interval == 0 or step >= last)
        return due and self.val_batches is not None and self.state.evaluated_step != step

    def _is_checkpoint_due(self) -> bool:
        step, interval = self.state.step, self.config.checkpoints.interval
        if step == 0 or self._saved_step == step:
            return False
        return step >= self.config.training.max_steps or step == self.state.best_step or (interval > 0 and step % interval == 0)

    def _asked_to_stop(self) -> bool:
        """A signal that one process got counts for all, at the same step."""
        self.stop.signal_number = self.world.largest(self.stop.signal_number or 0) or None
        return bool(self.stop)

    def _stopped_error(self) -> RunStopped:
        number = self.stop.signal_number
        assert number is not None
        cause = "Ctrl-C" if number == 2 else f"signal {number}"
        return RunStopped(
            f"stopped by {cause} after step {self.state.step} of {self.config.training.max_steps}; everything is saved. "
            f"Go on with: gpt-kit train --out {self.run} --resume auto",
            number,
        )

    def _diverged_error(self) -> GPTKitError:
        step, best, rate = self.state.step, self.state.best_step, self.config.training.learning_rate / 3
        # The weights just saved are those from before these updates, but they are also the ones that led here.
        start = f"go on from the best checkpoint, with --resume {checkpoint_folder(self.run, best)}" if best else "start again"
        return GPTKitError(
            f"loss or gradient was not finite {MOST_SKIPPED_UPDATES} times in a row, so the run stopped at step {step}. Those updates "
            f"changed nothing, and the weights are saved. The learning rate is probably too high: {start} and a lower "
            f"--training.learning-rate, such as {rate:.2g}"
        )

    def _record(self, figures: Record) -> None:
        record = {"step": self.state.step, "tokens_seen": self.state.tokens_seen, **figures}
        self._each(lambda observer: observer.record(record))

    def _say(self, remarks: list[str]) -> None:
        for remark in remarks:
            self._each(lambda observer, text=remark: observer.say(text))  # type: ignore[misc]

    def _progress(self, activity: str) -> None:
        self._each(lambda observer: observer.progress(self.state.step, activity))

    def _each(self, call: Callable[[Observer], None]) -> None:
        for observer in self.observers:
            call(observer)
