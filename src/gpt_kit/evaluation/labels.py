"""A classifier's answers: texts -> the probability of every label."""

from __future__ import annotations

import torch
from torch import Tensor

from gpt_kit.data import LabelledEvaluation, LabelledIds
from gpt_kit.evaluation.loss import evaluation_mode
from gpt_kit.model import GPTClassifier
from gpt_kit.runtime import Precision


def label_probabilities(model: GPTClassifier, texts: LabelledIds, *, precision: Precision, batch_size: int = 32) -> Tensor:
    """(texts, N) on the CPU, in the order of the texts; they are read `batch_size` at a time, those of about one length together."""
    batches = LabelledEvaluation(texts, batch_size=batch_size, pad_token_id=model.pad_token_id or 0)
    found = torch.empty(len(texts), len(model.labels))
    with evaluation_mode(model):
        for number, batch in enumerate(batches):
            moved = batch.to(model.device)
            with precision.autocast():
                logits, _ = model.label_logits_and_loss_sum(moved.inputs, moved.last, None)
            found[torch.from_numpy(batches.order[number * batch_size : (number + 1) * batch_size])] = logits.softmax(dim=1).cpu()
    return found
