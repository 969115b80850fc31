"""The training loop: it is handed finished parts, and owns only the order of events.

    evaluate if due -> save if due -> stop if done or asked to -> one step -> again

Every decision is a function of the step alone, so a run that was stopped anywhere and resumed does the same things as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from gpt_kit.config import Settings
from gpt_kit.data import Batch, Batches, BatchSequence, ReadAhead, TrainingBatches
from gpt_kit.errors import DiskFullError, GPTKitError
from gpt_kit.evaluation import LANGUAGE_MODELLING, LossReport, Objective, evaluate_loss
from gpt_kit.files import is_disk_full
from gpt_kit.model import GPTModel
from gpt_kit.runtime import (
    ALONE,
    Interrupted,
    Precision,
    StopRequest,
    World,
    interruptible,
    is_out_of_memory,
    random_state,
    restore_random_state,
)
from gpt_kit.tokenizers import Tokenizer
from gpt_kit.training import endings
from gpt_kit.training.checkpoint import TrainingState, prune_checkpoints, save_checkpoint
from gpt_kit.training.files import WHOLE_MODEL, ModelFiles
from gpt_kit.training.fitting import largest_that_fits, micro_batch_rows
from gpt_kit.training.metrics import Observer, Record
from gpt_kit.training.optimizers import Optimizers
from gpt_kit.training.parallel import gathered
from gpt_kit.training.samples import SampleWriter, write_sample
from gpt_kit.training.schedules import learning_rate_share
from gpt_kit.training.skipped import write_skipped_batch
from gpt_kit.training.step import StepReport, optimizer_step
from gpt_kit.training.watch import SpikeRule, Watch


@dataclass
class Trainer:
    """One run of pre-training into the folder `run`."""

    run: Path
    config: Settings
    model: GPTModel
    optimizers: Optimizers
    train_batches: BatchSequence
    val_batches: Batches | None
    """A fixed part of the validation text, the same at every evaluation."""
    whole_val_batches: Batches | None
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
    objective: Objective = LANGUAGE_MODELLING
    files: ModelFiles = WHOLE_MODEL
    """How the model lies in a checkpoint."""
    write_sample: SampleWriter = write_sample
    watch: Watch = field(init=False)
    spikes: SpikeRule = field(init=False)
    read_batch: Callable[[int], Batch] = field(init=False)
    """This process's share of a batch, by its number."""
    _saved_step: int | None = field(init=False)
    """The step whose checkpoint on disk is what `state` says; None where it has to be written anew."""
    _seconds: float = field(init=False, default=0.0)
    """Spent in training since the last record."""
    _tokens: int = field(init=False, default=0)
    """Read since then."""

    def __post_init__(self) -> None:
        best = self.state.best_val_loss
        self.watch = Watch(
            self.model.config.vocab_size,
            self.config.training.warmup_steps,
            math.inf if best is None else best,
            running_text=isinstance(self.train_batches, TrainingBatches),
        )
        self.spikes = SpikeRule(self.state.losses, self.state.grad_norms)

        def read(number: int) -> Batch:
            return self.train_batches.batch(number, self.world.rank, self.world.size)

        # A CPU is busy with the step itself, and takes a thousand times as long for it as for reading: there is nothing to gain.
        self.read_batch = read if self.device.type == "cpu" else ReadAhead(read)
        self._saved_step = self.state.step  # nothing is new yet

    def fit(self) -> TrainingState:
        """Train up to max_steps. A process alone saves before an error ends the run.

        Raises: RunStopped when asked to stop; GPTKitError when too many updates are skipped in a row or memory runs out; DiskFullError.
        """
        self.model.train()
        try:
            with interruptible(self._poll_points(), self.stop):
                self._run_to_the_end()
        except Interrupted:
            self.save()
            assert self.stop.signal_number is not None
            raise endings.stopped(self.run, self.config, self.state.step, self.stop.signal_number) from None
        except Exception:  # whatever it is: nothing that was learned is lost with it
            if self.world.size == 1 and not self.optimizers.underway:  # several processes can only save together
                with suppress(Exception):
                    self.save()
            raise
        return self.state

    def save(self) -> None:
        """Write a checkpoint of this step, unless it is already there, and drop old ones. Raises: DiskFullError."""
        if self._saved_step == self.state.step:
            return
        self._progress("saving")
        self.state.scaler = self.precision.scaler.state_dict()
        problem: DiskFullError | None = None
        try:
            save_checkpoint(self.run, self.model, self.optimizers, self.state, self.tokenizer, self.world, self.files)
            if self.world.is_main:
                prune_checkpoints(self.run, self.config.checkpoints.keep, self.state.best_step)
        except DiskFullError as error:
            problem = error
        if self.world.largest(problem is not None):  # what the main process found counts for all
            raise problem or DiskFullError("the main process found no room on the disk")
        self._saved_step = self.state.step

    def _run_to_the_end(self) -> None:
        while True:
            if self._is_evaluation_due():
                self._evaluate()
            if self._is_checkpoint_due():
                self._save_if_there_is_room()
            if self.state.step >= self.config.training.max_steps:
                return
            if self._asked_to_stop():
                raise Interrupted
            self._step()

    def _step(self) -> None:
        state = self.state
        started = time.perf_counter()
        self.optimizers.set_learning_rate_share(learning_rate_share(state.updates, self.config.training))
        self.world.seed_step(self.config.training.seed, state.step)
        report = self._update(self.read_batch(state.step))
        seconds = time.perf_counter() - started
        state.step += 1
        state.updates += report.updated
        state.tokens_seen += self.train_batches.tokens_per_batch
        state.elapsed_seconds += seconds
        self._seconds += seconds
        self._tokens += self.train_batches.tokens_per_batch
        self._progress("training")
        if report.updated:
            self._count_update(report)
        elif report.skipped == "spike" or not math.isfinite(report.loss) or self.precision.scaler.get_scale() <= 1:
            self._count_skipped(report)  # otherwise fp16 is still looking for a loss scale that fits
        self._tell(report)
        if state.skipped_updates >= self.config.training.max_skipped_updates:
            self.save()
            raise endings.diverged(self.run, self.state, self.config.training, report)

    def _update(self, batch: Batch) -> StepReport:
        """One update, or none: a step that is cut short leaves everything as it was before it."""
        before = random_state()
        try:
            return optimizer_step(
                self.spread_model or self.model,
                self.optimizers,
                batch.split(micro_batch_rows(self.config, self.device, batch.inputs.shape[1])),
                max_grad_norm=self.config.training.max_grad_norm,
                precision=self.precision,
                device=self.device,
                world=self.world,
                objective=self.objective,
                accept=self._accepts,
            )
        except Exception as error:
            restore_random_state(before)
            if not is_out_of_memory(error):
                raise
        raise self._out_of_memory_error(batch, before)

    def _accepts(self, loss: float, grad_norm: float) -> bool:
        return not (self.config.training.skip_spikes and self.spikes.is_spike(loss, grad_norm))

    def _count_update(self, report: StepReport) -> None:
        self.state.skipped_updates = 0
        if self.config.training.skip_spikes:
            self.spikes.accept(report.loss, report.grad_norm)
            self.state.losses, self.state.grad_norms = self.spikes.losses, self.spikes.grad_norms

    def _count_skipped(self, report: StepReport) -> None:
        self.state.skipped_updates += 1
        if self.world.is_main:
            batch = self.train_batches.batch(self.state.step - 1)  # all of it, not only this process's share
            self._leave_out_without_room(lambda: write_skipped_batch(self.run, self.state.step, report, batch, self.tokenizer))
        self._say(self.watch.after_skipped_update(self.state.step, report.skipped))

    def _tell(self, report: StepReport) -> None:
        state, interval = self.state, self.config.logging.interval
        if report.updated:
            self._say(self.watch.after_step(state.step, report.loss, self.train_batches.epoch_of(state.step)))
        if state.step % interval == 0 or state.step in (1, self.config.training.max_steps) or not report.updated:
            self._record(
                {
                    "train/loss": report.loss,
                    **{f"train/{name}": value for name, value in report.parts.items()},  # its first part is the loss, as in evaluations
                    **({"train/objective": report.loss} if report.parts else {}),
                    "learning_rate": self.optimizers.learning_rate,
                    "grad_norm": report.grad_norm,
                    "epoch": self.train_batches.epoch_of(state.step),
                    "tokens_per_second": self._tokens / self._seconds,
                }
            )
            self._seconds, self._tokens = 0.0, 0

    def _evaluate(self) -> None:
        assert self.val_batches is not None
        state, last = self.state, self.state.step >= self.config.training.max_steps
        report = self._loss_over(self.val_batches)
        val_loss = report.mean
        record = {"val/loss": val_loss, **{f"val/{name}": value for name, value in report.others.items()}}
        if last and self.whole_val_batches is not None:
            record["val/whole_loss"] = self._loss_over(self.whole_val_batches).mean
        if self.config.evaluation.sample_tokens and math.isfinite(val_loss):  # nothing can be drawn from a model that is not finite
            self._progress("sampling")
            model = gathered(self.model, self.world)
            if self.world.is_main:
                settings, batches = self.config.evaluation, self.val_batches
                self._leave_out_without_room(
                    lambda: self.write_sample(self.run, settings, model, batches, self.tokenizer, state.step, val_loss)
                )
        self._saved_step = None  # what this step saved before it was evaluated (stopped, then resumed) knows nothing of it
        state.evaluated_step = state.step
        misfit = self.objective.misfit({"loss": val_loss, **report.others})
        lowest = state.best_val_loss if state.best_misfit is None else state.best_misfit
        if math.isfinite(val_loss) and (lowest is None or misfit < lowest):
            state.best_val_loss, state.best_step = val_loss, state.step
            state.best_misfit = None if misfit == val_loss else misfit
        self._record(record)
        self._say(self.watch.after_evaluation(state.step, val_loss))

    def _loss_over(self, batches: Batches) -> LossReport:
        number_of_batches = len(batches)

        def progress(number: int) -> None:
            if self._asked_to_stop():
                raise Interrupted
            self._progress(f"validating {min(100, 100 * number // number_of_batches)} %")

        return evaluate_loss(
            self.model, batches, precision=self.precision, device=self.device, progress=progress, world=self.world, objective=self.objective
        )

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

    def _poll_points(self) -> list[nn.Module]:
        """Where a stop request may cut a pass short: at its ends, and at every block that is not compiled into one.

        Several processes only stop between steps, where they can agree on it.
        """
        if self.world.size > 1:
            return []
        compiled = self.device.type != "cpu" or self.config.training.compile == "on"
        return [self.model.embedding_dropout, self.model.final_norm, *([] if compiled else self.model.blocks)]

    def _save_if_there_is_room(self) -> None:
        """A full disk ends the run only where that is wished, or where no other checkpoint comes after."""
        try:
            self.save()
        except DiskFullError as error:
            if self.config.checkpoints.on_full_disk == "stop" or self.state.step >= self.config.training.max_steps:
                raise
            self._say([f"step {self.state.step}: {error}. The run goes on, and tries again when the next checkpoint is due"])

    def _leave_out_without_room(self, write: Callable[[], object]) -> None:
        """A sample or a skipped batch is no reason to end a run."""
        try:
            write()
        except DiskFullError as error:
            self._say([f"step {self.state.step}: {error}. The run goes on without it"])

    def _out_of_memory_error(self, batch: Batch, random_states: dict[str, Tensor]) -> GPTKitError:
        """What would fit is found by trying; then all is put back as it was before the step, and saved."""
        rows = micro_batch_rows(self.config, self.device)
        if self.world.size > 1 or self.optimizers.underway:  # the others wait inside the step; or some weights are updated, and others not
            return endings.out_of_memory(self.run, self.config, self.state.step, rows, None)
        self._progress("looking for what fits")
        fitting = largest_that_fits(self.model, self.optimizers, batch, rows // 2, self.precision)
        restore_random_state(random_states)
        self.save()
        return endings.out_of_memory(self.run, self.config, self.state.step, rows, fitting)

    def _record(self, figures: Record) -> None:
        record = {"step": self.state.step, "tokens_seen": self.state.tokens_seen, **figures}
        self._each(lambda observer: observer.record(record))

    def _say(self, remarks: list[str]) -> None:
        for remark in remarks:
            self._each(lambda observer, text=remark: observer.say(text))  # type: ignore[misc]

    def _progress(self, activity: str) -> None:
        self._each(lambda observer: observer.progress(self.state.step, activity))

    def _each(self, call: Callable[[Observer], object]) -> None:
        for observer in self.observers:
            try:
                call(observer)
            except OSError as error:
                if not is_disk_full(error):
                    raise  # where output goes to a full disk, it is missing there; the run is worth more
