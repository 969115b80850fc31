"""Somebody who watches the curves and says in words what they mean, with what to try. Each remark is made once.

The thresholds are judgements, not theorems; each stands beside its reason.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence

SPIKE_SIGMAS = 6.0  # a healthy loss leaves 6 standard deviations of its recent past less than once in a million steps
SPIKE_WINDOW = 128
OVERFIT_RISE = 0.02  # validation 2 % above its best: more than the noise of a fixed validation text
OVERFIT_EVALUATIONS = 2  # … twice in a row
REPEATED_EPOCHS = 4  # up to about 4 passes repeated text teaches as well as new text (Muennighoff et al. 2023, section 5)
NO_LEARNING_GAIN = 0.02  # nats below a uniform guess after the warm-up and a hundred steps


def stands_out(value: float, past: Sequence[float]) -> bool:
    """Whether `value` lies more than SPIKE_SIGMAS standard deviations above the mean of a full window of `past` values."""
    if len(past) < SPIKE_WINDOW:
        return False  # early losses fall so fast that nothing can be said about them
    mean, deviation = statistics.fmean(past), statistics.stdev(past)
    return deviation > 0 and value > mean + SPIKE_SIGMAS * deviation


class SpikeRule:
    """Is this step's loss or gradient norm out of all proportion to the last SPIKE_WINDOW accepted ones?

    Pure: no clock, no tensors. `losses` and `grad_norms`, oldest first, are plain lists that a checkpoint can hold as JSON; a rule
    made of them anew goes on as if nothing had happened. A spike must not be accepted, or it would widen the rule for the next one.
    """

    def __init__(self, losses: Sequence[float] = (), grad_norms: Sequence[float] = ()) -> None:
        self.losses, self.grad_norms = list(losses)[-SPIKE_WINDOW:], list(grad_norms)[-SPIKE_WINDOW:]

    def is_spike(self, loss: float, grad_norm: float) -> bool:
        """Whether either stands out; never before SPIKE_WINDOW steps were accepted. Not a number is another matter: False."""
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            return False
        return stands_out(loss, self.losses) or stands_out(grad_norm, self.grad_norms)

    def accept(self, loss: float, grad_norm: float) -> None:
        """Count this step among the past, and forget the oldest beyond the window. Values that are not finite are left out."""
        if math.isfinite(loss) and math.isfinite(grad_norm):
            self.losses = [*self.losses, loss][-SPIKE_WINDOW:]
            self.grad_norms = [*self.grad_norms, grad_norm][-SPIKE_WINDOW:]


class Watch:
    """Feed it the run's figures; it answers with remarks (mostly none)."""

    def __init__(self, vocab_size: int, warmup_steps: int, best_val: float = math.inf, *, running_text: bool = True) -> None:
        """Without `running_text` the data are examples, which are meant to be seen again and again."""
        self.uniform_loss = math.log(vocab_size)
        self.judge_learning_after = warmup_steps + 100
        self.losses: deque[float] = deque(maxlen=SPIKE_WINDOW)
        self.best_val = best_val
        self.running_text = running_text
        self.train_at_best: float | None = None  # the recent training loss when validation was best; not known yet after a restart
        self.rises = 0
        self.said: set[str] = set()

    def after_step(self, step: int, loss: float, epoch: float) -> list[str]:
        """Remarks on one training step."""
        if not math.isfinite(loss):
            return []  # a skipped update: said elsewhere, and no part of the statistics
        remarks = []
        if stands_out(loss, self.losses):
            mean, deviation = statistics.fmean(self.losses), statistics.stdev(self.losses)
            remarks += self._once(
                "spike",
                f"step {step}: the loss jumped to {loss:.2f} (before: {mean:.2f} ± {deviation:.2f}). If it does not come back: "
                "a lower --training.learning-rate, a longer --training.warmup-steps, or a look at the text of that batch",
            )
        self.losses.append(loss)
        if step >= self.judge_learning_after and (recent := statistics.fmean(self.losses)) > self.uniform_loss - NO_LEARNING_GAIN:
            worse = recent > self.uniform_loss + NO_LEARNING_GAIN
            remarks += self._once(
                "no learning",
                f"step {step}: the loss ({recent:.2f}) is {'worse than' if worse else 'still'} that of a guess among all tokens "
                f"({self.uniform_loss:.2f}): nothing is learned. Try a --training.learning-rate ten times "
                f"{'lower' if worse else 'higher or lower'}, and check that the text is text",
            )
        if self.running_text and epoch > REPEATED_EPOCHS:
            remarks += self._once(
                "repeated",
                f"step {step}: the text has been seen {REPEATED_EPOCHS} times. Further passes teach less and less "
                "and invite memorising: more text, a smaller model, or fewer steps",
            )
        return remarks

    def after_evaluation(self, step: int, val_loss: float) -> list[str]:
        """Remarks on one evaluation."""
        train_loss = statistics.fmean(self.losses) if self.losses else math.nan
        self.rises = self.rises + 1 if val_loss > self.best_val * (1 + OVERFIT_RISE) else 0
        if val_loss < self.best_val or self.train_at_best is None:
            self.train_at_best = train_loss
        self.best_val = min(self.best_val, val_loss)
        if self.rises < OVERFIT_EVALUATIONS:
            return []
        if not train_loss < self.train_at_best:
            return self._once(
                "getting worse",
                f"step {step}: validation loss rises ({val_loss:.3f}, its best was {self.best_val:.3f}), and training loss does not fall: "
                "the model gets worse. The best checkpoint is kept. Try a lower --training.learning-rate or a longer warm-up",
            )
        return self._once(
            "over-fitting",
            f"step {step}: validation loss rises ({val_loss:.3f}, its best was {self.best_val:.3f}) while training loss falls: the model "
            "memorises. The best checkpoint is kept. Try more text, more dropout (0.1 to 0.3), or fewer steps",
        )

    def after_skipped_update(self, step: int, why: str) -> list[str]:
        """Remarks on an update that was skipped because it was "not finite", or a "spike"."""
        if why == "spike":
            return self._once(
                "skipped spike",
                f"step {step}: loss or gradient norm stood out by more than {SPIKE_SIGMAS:.0f} standard deviations, so this update was "
                "skipped. The text of such batches is written to the run's folder skipped/",
            )
        return self._once(
            "not finite",
            f"step {step}: loss or gradient was not a finite number, so this update was skipped, and the text of its batch written to the "
            "run's folder skipped/. If it happens again: a lower --training.learning-rate, or --training.precision bf16 or float32 "
            "instead of fp16",
        )

    def _once(self, kind: str, text: str) -> list[str]:
        if kind in self.said:
            return []
        self.said.add(kind)
        return [text]
