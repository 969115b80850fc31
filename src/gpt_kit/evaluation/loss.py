"""Loss over a text: sums over scored tokens, divided once at the end, so that batches of any size weigh what they hold."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from gpt_kit.data import Batch
from gpt_kit.errors import DataError
from gpt_kit.evaluation.objective import LANGUAGE_MODELLING, Objective
from gpt_kit.runtime import ALONE, Precision, World


@dataclass(frozen=True, slots=True)
class LossReport:
    """Negative log-likelihood, in nats, summed over `tokens` scored tokens."""

    nats: float
    tokens: float
    """How many, or their weight where they weigh unequally."""
    others: dict[str, float] = field(default_factory=dict)
    """The means of the objective's other parts, by name."""

    @property
    def mean(self) -> float:
        """Nats per scored token: the cross-entropy loss."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(mean); infinite where that overflows."""
        return math.exp(self.mean) if self.mean < 700 else math.inf

    def bits_per_byte(self, text_bytes: int) -> float:
        """Bits the model needs per byte of the text that was scored: comparable across tokenizers, and with compressors."""
        return self.nats / math.log(2) / text_bytes


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """No dropout, no gradients; the model's mode is put back afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def evaluate_loss(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    precision: Precision,
    device: torch.device,
    progress: Callable[[int], None] = lambda _: None,
    world: World = ALONE,
    objective: Objective = LANGUAGE_MODELLING,
) -> LossReport:
    """Score every batch by all parts of the objective, dealt out to the processes of `world`; all get the sums.

    `progress` is called with the number of batches done. Raises: DataError when nothing is scored.
    """
    sums: list[float] = [0.0 for _ in objective.names]
    counts: list[float] = [0 for _ in objective.names]
    with evaluation_mode(model):
        for number, batch in enumerate(_deal(batches, world), start=1):
            counts = [total + count for total, count in zip(counts, objective.counts(batch), strict=True)]
            moved = batch.to(device)
            with precision.autocast():
                found = torch.stack(objective.sums(model, moved)).tolist()
            sums = [total + value for total, value in zip(sums, found, strict=True)]
            progress(number * world.size)
    sums, counts = [world.sum(total) for total in sums], [world.sum(total) for total in counts]
    if counts[0] == 0:
        raise DataError("no token is scored: the evaluation text is empty, or all of its targets are masked")
    means = {name: total / count for name, total, count in zip(objective.names, sums, counts, strict=True) if count}
    return LossReport(sums[0], counts[0], {name: means[name] for name in objective.names[1:] if name in means})


def _deal(batches: Iterable[Batch], world: World) -> Iterator[Batch]:
    """This process's batches. All get equally many: in a last round that is not full, some read one that scores nothing."""
    coming = iter(batches)
    while dealt := list(itertools.islice(coming, world.size)):
        yield dealt[world.rank] if world.rank < len(dealt) else dealt[0].unscored()
