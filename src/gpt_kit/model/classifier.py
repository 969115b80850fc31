"""A GPT with a second head: texts -> labels (Radford et al. 2018, section 3.2).

The last real token has read the whole text, so its hidden state is what a linear layer scores. Where that token stands follows from
the padding mask, so that padding on the left, on the right or none gives the same answer. The language-model head stays beside it:
its loss on the same texts is GPT-1's auxiliary objective, from the same pass through the blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt_kit.config import ModelConfig
from gpt_kit.errors import CheckpointError, InputError
from gpt_kit.files import atomic_folder
from gpt_kit.model.dropout import Dropout
from gpt_kit.model.gpt import GPTModel
from gpt_kit.model.loss import linear_cross_entropy_sum
from gpt_kit.model.tied import tied_gradient
from gpt_kit.weights import ClassificationHead, load_weights, save_weights

SCORE = "score.weight"


class GPTClassifier(GPTModel):
    """A `GPTModel` and the weights that score labels. `forward` still gives the logits of the next token."""

    def __init__(self, config: ModelConfig, labels: Sequence[str], pad_token_id: int | None = None, dropout: float = 0.1) -> None:
        super().__init__(config)
        self.labels = tuple(labels)
        """The names of the labels 0, 1, …"""
        self.pad_token_id = pad_token_id
        """What fills rows up. Never the last token of a text: transformers finds that by it."""
        self.score_dropout = Dropout(dropout)
        self.score = nn.Linear(config.n_embd, len(self.labels), bias=False)
        nn.init.normal_(self.score.weight, std=config.initializer_range)

    def label_logits(self, token_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """(B, T) token ids, of which `attention_mask` (B, T) is 0 at padding -> (B, N) logits of the labels, float32.

        Raises: InputError for a row of nothing but padding, and past the context.
        """
        real = torch.ones_like(token_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        if not real.any(dim=1).all():
            raise InputError("a text without any token has no label. Give every row of attention_mask at least one 1")
        last = real.shape[1] - 1 - real.flip(1).byte().argmax(dim=1)
        # Nothing looks ahead: padding on the right is seen by no real token, and plain causal attention is the faster kernel.
        on_the_right = bool((real.sum(dim=1) == last + 1).all())
        return self._score(self.hidden_states(token_ids, None if on_the_right else real), last)

    def label_logits_and_loss_sum(self, token_ids: Tensor, last: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor]:
        """Both heads after one pass, for training.

        (B, T) token ids, filled up on the right, and (B,) places of the last real tokens -> (B, N) logits of the labels, float32, and
        the sum of nats over the scored `targets` (B, T) of the language model; 0 where there are none.
        """
        tied = None if self.head is not None or targets is None else tied_gradient(self.token_embedding)
        hidden = self.hidden_states(token_ids, tied=tied)
        if targets is None:
            return self._score(hidden, last), torch.zeros((), device=hidden.device)
        nats = linear_cross_entropy_sum(hidden, self._padded_head_weight, targets, self.config.vocab_size, tied)
        return self._score(hidden, last), nats

    def _score(self, hidden: Tensor, last: Tensor) -> Tensor:
        """(B, T, C) hidden states and (B,) places -> (B, N) logits. In float32: a few products, and all that is asked for."""
        pooled = hidden[torch.arange(len(last), device=last.device), last]
        with torch.autocast(hidden.device.type, enabled=False):
            return F.linear(self.score_dropout(pooled.float()), self.score.weight)

    def classification_head(self, weight: Tensor | None = None) -> ClassificationHead:
        """What a model folder holds beside the GPT; `weight` (N, C) in the place of the model's own."""
        return ClassificationHead(self.labels, self.score.weight.detach() if weight is None else weight, self.pad_token_id)

    @classmethod
    def from_pretrained(cls, model: str | Path) -> GPTClassifier:
        """The classifier that MODEL names. Raises: CheckpointError as `GPTModel`'s, and for a model that scores no labels."""
        weights = load_weights(model)
        head = weights.classification
        if head is None:
            raise CheckpointError(f"{model}: a language model, which scores no labels. Teach it some with: gpt-kit finetune classify")
        with torch.device("meta"):
            built = cls(weights.config, head.labels, head.pad_token_id)
        return built._filled({**weights.tensors, SCORE: head.weight}, model)

    def save_pretrained(self, folder: str | Path, *, end_of_text_id: int | None = None) -> None:
        """Write a folder that transformers opens as GPT2- or OpenAIGPTForSequenceClassification, whole or not at all."""
        tensors = {name: tensor for name, tensor in self.exported_tensors().items() if name != SCORE}
        with atomic_folder(Path(folder), keep_others=True) as temporary:
            save_weights(temporary, self.config, tensors, end_of_text_id=end_of_text_id, classification=self.classification_head())
