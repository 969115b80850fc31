"""Loss over a text: sums over scored tokens, divided once at the end, so that batches of any size weigh what they hold."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt_kit.data import Batch
from gpt_kit.errors import DataError, InputError
from gpt_kit.model import IGNORE_INDEX, GPTModel
from gpt_kit.runtime import ALONE, Precision, World


@dataclass(frozen=True, slots=True)
class LossReport:
    """Negative log-likelihood, in nats, summed over `tokens` scored tokens."""

    nats: float
    tokens: int

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


def batch_loss_sum(model: nn.Module, inputs: Tensor, targets: Tensor, document_ids: Tensor | None = None) -> Tensor:
    """Sum of nats over the scored targets. Any module that maps ids to logits will do; the kit's own never holds them whole.

    Raises: InputError when another module is asked to keep packed documents apart.
    """
    if isinstance(model, LossSum | nn.parallel.DistributedDataParallel):
        return model(inputs, targets, document_ids)  # type: ignore[no-any-return]
    if isinstance(model, GPTModel):
        return model.loss_sum(inputs, targets, document_ids=document_ids)
    if document_ids is not None:
        raise InputError(f"documents are kept apart by GPTModel only; got {type(model).__name__}. Give batches without document_ids")
    logits = model(inputs)
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")


class LossSum(nn.Module):
    """`batch_loss_sum` as a module's forward, for DistributedDataParallel to be put around: it hooks into forward alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, targets: Tensor, document_ids: Tensor | None = None) -> Tensor:
        """Ids and targets (B, T) -> sum of nats, a scalar."""
        return batch_loss_sum(self.model, inputs, targets, document_ids)


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
) -> LossReport:
    """Score every batch, dealt out to the processes of `world`; all get the sums.

    `progress` is called with the number of batches done. Raises: DataError when nothing is scored.
    """
    nats, tokens = 0.0, 0
    with evaluation_mode(model):
        for number, batch in enumerate(_deal(batches, world), start=1):
            tokens += batch.num_scored
            moved = batch.to(device)
            with precision.autocast():
                nats += batch_loss_sum(model, moved.inputs, moved.targets, moved.document_ids).item()
            progress(number * world.size)
    nats, tokens = world.sum(nats), world.sum(tokens)
    if tokens == 0:
        raise DataError("no token is scored: the evaluation text is empty, or all of its targets are masked")
    return LossReport(nats, tokens)


def _deal(batches: Iterable[Batch], world: World) -> Iterator[Batch]:
    """This process's batches. All get equally many: in a last round that is not full, some read one that scores nothing."""
    coming = iter(batches)
    while dealt := list(itertools.islice(coming, world.size)):
        yield dealt[world.rank] if world.rank < len(dealt) else dealt[0].unscored()
