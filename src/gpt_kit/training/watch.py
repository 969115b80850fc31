"""Somebody who watches the curves and says in words what they mean, with what to try. Each remark is made once.

The thresholds are judgements, not theorems; each stands beside its reason.
"""

from __future__ import annotations

import math
import statistics
from collections import deque

SPIKE_SIGMAS = 6.0  # a healthy loss leaves 6 standard deviations of its recent past less than once in a million steps
SPIKE_WINDOW = 128
OVERFIT_RISE = 0.02  # validation 2 % above its best: more than the noise of a fixed validation text
OVERFIT_EVALUATIONS = 2  # … twice in a row
REPEATED_EPOCHS = 4  # up to about 4 passes repeated text teaches as well as new text (Muennighoff et al. 2023, section 5)
NO_LEARNING_GAIN = 0.02  # nats below a uniform guess after the warm-up and a hundred steps


class Watch:
    """Feed it the run's figures; it answers with remarks (mostly none)."""

    def __init__(self, vocab_size: int, warmup_steps: int, best_val: float = math.inf) -> None:
        self.uniform_loss = math.log(vocab_size)
        self.judge_learning_after = warmup_steps + 100
        self.losses: deque[float] = deque(maxlen=SPIKE_WINDOW)
        self.best_val = best_val
        self.train_at_best: float | None = None  # the recent training loss when validation was best; not known yet after a restart
        self.rises = 0
        self.said: set[str] = set()

    def after_step(self, step: int, loss: float, epoch: float) -> list[str]:
        """Remarks on one training step."""
        if not math.isfinite(loss):
            return []  # a skipped update: said elsewhere, and no part of the statistics
        remarks = []
        if len(self.losses) == SPIKE_WINDOW:
            mean, deviation = statistics.fmean(self.losses), statistics.stdev(self.losses)
            if deviation > 0 and loss > mean + SPIKE_SIGMAS * deviation:
                remarks += self._once(
                    "spike",
                    f"step {step}: the loss jumped to {loss:.2f} (before: {mean:.2f} ± {deviation:.2f}). If it does not come back: "
                    "a lower --training.learning-rate, a longer --training.warmup-steps, or a look at the text of that batch",
                )
        self.losses.append(loss)
        if step >= self.judge_learning_after and statistics.fmean(self.losses) > self.uniform_loss - NO_LEARNING_GAIN:
            remarks += self._once(
                "no learning",
                f"step {step}: the loss ({loss:.2f}) is still that of a guess among all tokens ({self.uniform_loss:.2f}): "
                "nothing is learned. Try a --training.learning-rate ten times higher or lower, and check that the text is text",
            )
        if epoch > REPEATED_EPOCHS:
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
            "memorises. The best checkpoint is kept. Try more text, dropout 0.1 to 0.2 (--model.residual-dropout), or fewer steps",
        )

    def after_skipped_update(self, step: int) -> list[str]:
        """Remarks on an update that was not finite."""
        return self._once(
            "not finite",
            f"step {step}: loss or gradient was not a finite number, so this update was skipped. If it happens again: a lower "
            "--training.learning-rate, or --training.precision bf16 or float32 instead of fp16",
        )

    def _once(self, kind: str, text: str) -> list[str]:
        if kind in self.said:
            return []
        self.said.add(kind)
        return [text]
