"""What a run minimises: sums over what is scored, each divided once by how many that is.

The counts are taken over all micro-batches and processes before the first forward pass, so that the update does not depend on how a
batch is split.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from gpt_kit.data import Batch
from gpt_kit.errors import InputError
from gpt_kit.model import IGNORE_INDEX, GPTModel


class Objective(Protocol):
    """loss = the sum over its parts of share * sum / count. What is called the loss of a validation text is the first part."""

    names: tuple[str, ...]
    """What each part is called where it is told, the first one "loss"."""
    shares: tuple[float, ...]
    """Weight of each part in the loss; a part with 0 is only told."""

    def misfit(self, means: Mapping[str, float]) -> float:
        """By which of the figures of an evaluation the best checkpoint is chosen: the lower the better."""

    def counts(self, batch: Batch) -> tuple[float, ...]:
        """What each part's sum is divided by, once it is added up over the whole batch."""

    def sums(self, model: nn.Module, batch: Batch) -> tuple[Tensor, ...]:
        """Each part's sum over the batch, a scalar to call backward on."""


def batch_loss_sum(model: nn.Module, inputs: Tensor, targets: Tensor, document_ids: Tensor | None = None) -> Tensor:
    """Sum of nats over the scored targets. Any module that maps ids to logits will do; the kit's own never holds them whole.

    Raises: InputError when another module is asked to keep packed documents apart.
    """
    if isinstance(model, GPTModel):
        return model.loss_sum(inputs, targets, document_ids=document_ids)
    if document_ids is not None:
        raise InputError(f"documents are kept apart by GPTModel only; got {type(model).__name__}. Give batches without document_ids")
    logits = model(inputs)
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")


class ObjectiveSums(nn.Module):
    """An objective's sums as a module's forward, for DistributedDataParallel to be put around: it hooks into forward alone."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Batch) -> tuple[Tensor, ...]:
        """Each part's sum over the batch."""
        return self.objective.sums(self.model, batch)


def objective_sums(model: nn.Module, objective: Objective, batch: Batch) -> tuple[Tensor, ...]:
    """`objective.sums`, through the forward of a model that is spread over several processes."""
    if isinstance(model, nn.parallel.DistributedDataParallel):
        return model(batch)  # type: ignore[no-any-return]
    return objective.sums(model, batch)


class LanguageModelling:
    """The mean negative log-likelihood of the scored tokens, in nats."""

    names: tuple[str, ...] = ("loss",)
    shares: tuple[float, ...] = (1.0,)

    def misfit(self, means: Mapping[str, float]) -> float:
        """The loss."""
        return means["loss"]

    def counts(self, batch: Batch) -> tuple[float, ...]:
        """The scored targets."""
        return (batch.num_scored,)

    def sums(self, model: nn.Module, batch: Batch) -> tuple[Tensor, ...]:
        """Their negative log-likelihoods."""
        return (batch_loss_sum(model, batch.inputs, batch.targets, batch.document_ids),)


LANGUAGE_MODELLING = LanguageModelling()
