"""Teaching a model to judge texts: what is minimised, how the model lies on disk, and the tokens behind a text.

The loss is GPT-1's (Radford et al. 2018, section 3.2): the cross-entropy of the labels, and `lm_weight` times that of the texts' own
tokens, which keeps the model a language model and helps it learn. Each part is divided by its own count, over all micro-batches.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt_kit.data import Batch, LabelledBatch
from gpt_kit.errors import CheckpointError
from gpt_kit.model import IGNORE_INDEX, GPTClassifier, GPTModel
from gpt_kit.tokenizers import END_OF_TEXT, Tokenizer
from gpt_kit.training import refuse_other_model
from gpt_kit.weights import load_weights, save_weights

SCORE, PAD = "score.weight", "<|pad|>"


class Classification:
    """The objective: weighted mean of the labels' cross-entropies + lm_weight · mean cross-entropy of the tokens. Tells the accuracy."""

    names: tuple[str, ...] = ("loss", "accuracy", "lm_loss")

    def __init__(self, label_weights: Sequence[float], lm_weight: float) -> None:
        """`label_weights`: how much an example of each label counts. The sum is divided by the weights of all examples of a batch."""
        self.label_weights = torch.tensor(label_weights)
        self.lm_weight = lm_weight
        self.shares: tuple[float, ...] = (1.0, 0.0, lm_weight)

    def misfit(self, means: Mapping[str, float]) -> float:
        """The share of wrong answers. The loss may rise while they still get fewer: a model can be too sure, and more often right."""
        return 1 - means["accuracy"]

    def counts(self, batch: Batch) -> tuple[float, ...]:
        """The weight of the examples, their number, and the tokens that the language model is asked for."""
        labels = _labelled(batch).labels
        labels = labels[labels != IGNORE_INDEX]
        tokens = batch.num_scored if self.lm_weight else 0
        return float(self.label_weights[labels].sum()), float(len(labels)), float(tokens)

    def sums(self, model: nn.Module, batch: Batch) -> tuple[Tensor, ...]:
        """Weighted nats of the labels, right answers, nats of the tokens."""
        batch = _labelled(batch)
        assert isinstance(model, GPTClassifier)
        logits, nats = model.label_logits_and_loss_sum(batch.inputs, batch.last, batch.targets if self.lm_weight else None)
        weights = self.label_weights.to(logits.device)
        loss = F.cross_entropy(logits, batch.labels, weights, ignore_index=IGNORE_INDEX, reduction="sum")
        return loss, (logits.argmax(dim=1) == batch.labels).sum().float(), nats


def balanced_weights(counts: Sequence[int]) -> list[float]:
    """Weights by which every label counts the same as a whole, and an average example 1."""
    return [sum(counts) / (len(counts) * max(count, 1)) for count in counts]


class ClassifierFiles:
    """A Hugging Face folder that transformers opens as GPT2- or OpenAIGPTForSequenceClassification (`training.ModelFiles`)."""

    def tensors(self, model: GPTModel) -> dict[str, Tensor]:
        """All weights, those that score labels too."""
        return model.exported_tensors()

    def write(self, folder: Path, model: GPTModel, tensors: Mapping[str, Tensor], end_of_text_id: int | None) -> None:
        """config.json, generation_config.json, model.safetensors."""
        assert isinstance(model, GPTClassifier)
        rest = {name: tensor for name, tensor in tensors.items() if name != SCORE}
        head = model.classification_head(tensors[SCORE])
        save_weights(folder, model.config, rest, end_of_text_id=end_of_text_id, classification=head)

    def read(self, folder: Path, model: GPTModel) -> None:
        """Raises: CheckpointError for a folder of another model or other labels."""
        assert isinstance(model, GPTClassifier)
        weights = load_weights(folder, verify=False)
        head = weights.classification
        if head is None or head.labels != model.labels:
            had = "none" if head is None else ", ".join(head.labels)
            raise CheckpointError(f"{folder}: its labels are {had}; this run's are {', '.join(model.labels)}. Choose another checkpoint")
        refuse_other_model(folder, weights.config, model.config)
        model.load_tensors({**weights.tensors, SCORE: head.weight})


def labelling_tokenizer(tokenizer: Tokenizer, closing_token: bool = False) -> tuple[Tokenizer, int]:
    """The same tokenizer with a token that fills rows up, and its id; with `closing_token`, the end token stands behind every text.

    The filling token is the tokenizer's own, or else its end token where that is free, or PAD. It must be one that no text contains
    or ends with, for transformers finds the end of a text by it. What is missing is appended to the vocabulary.
    """
    end = [] if tokenizer.end_of_text_id is not None else [END_OF_TEXT]
    labelling = copy.copy(tokenizer.with_special_tokens(end))  # it might be `tokenizer` itself
    end_token = next(name for name, number in labelling.special_tokens.items() if number == labelling.end_of_text_id)
    pad = labelling.roles.get("pad_token", "")
    if pad not in labelling.special_tokens or (closing_token and pad == end_token):
        pad = PAD if closing_token else end_token
        labelling = copy.copy(labelling.with_special_tokens([pad]))
    labelling.roles = {**labelling.roles, "pad_token": pad}
    labelling.closing_token = end_token if closing_token else None
    return labelling, labelling.special_tokens[pad]


def classifier_on(
    base: GPTModel, labels: Sequence[str], pad_token_id: int, dropout: float = 0.1, inner_dropout: float | None = None
) -> GPTClassifier:
    """`base` with a newly drawn head for `labels`; `inner_dropout` takes the place of its three dropouts."""
    config, share = base.config, inner_dropout
    if share is not None:
        config = dataclasses.replace(config, embedding_dropout=share, attention_dropout=share, residual_dropout=share)
    model = GPTClassifier(config, labels, pad_token_id, dropout)
    model.load_tensors({**base.exported_tensors(), SCORE: model.score.weight.detach()})
    return model


def _labelled(batch: Batch) -> LabelledBatch:
    assert isinstance(batch, LabelledBatch)
    return batch
