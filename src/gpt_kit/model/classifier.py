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
from gpt_kit.model.gpt import GPTModel
from gpt_kit.weights import ClassificationHead, load_weights, save_weights

SCORE = "score.weight"


class GPTClassifier(GPTModel):
    """`GPTModel` and the weights that score labels. `forward` still gives the logits of the next token."""

    def __init__(self, config: ModelConfig, labels: Sequence[str], *, pad_token_id: int, dropout: float = 0.1) -> None:
        super().__init__(config)
        self.labels = tuple(labels)
        self.pad_token_id = pad_token_id
        """Fills rows up; never the last token of a text, for transformers finds the end of a text by it."""
        self.score_dropout = nn.Dropout(dropout)
        self.score = nn.Linear(config.n_embd, len(labels), bias=False)
        nn.init.normal_(self.score.weight, std=config.initializer_range)

    def label_logits(self, token_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """(B, T) token ids, of which `attention_mask` (B, T) is 0 at padding -> (B, N) logits of the labels."""
        if attention_mask is None:
            return self.score_tokens(self.hidden_states(token_ids)[:, -1])
        real = attention_mask.bool()
        if not real.any(dim=1).all():
            raise InputError("a text without any token has no label. Give every row of attention_mask at least one 1")
        last = real.shape[1] - 1 - real.flip(1).byte().argmax(dim=1)
        # Nothing looks ahead, so padding on the right is seen by no real token, and plain causal attention is the faster kernel.
        is_right_padded = bool((real.sum(dim=1) == last + 1).all())
        hidden = self.hidden_states(token_ids, None if is_right_padded else attention_mask)
        return self.score_tokens(hidden[torch.arange(len(last), device=last.device), last])

    def score_tokens(self, hidden: Tensor) -> Tensor:
        """(B, C) hidden states of the last tokens -> (B, N) logits in float32."""
        return self.score(self.score_dropout(hidden)).float()  # type: ignore[no-any-return]

    @property
    def classification_head(self) -> ClassificationHead:
        """What a model folder holds beside the GPT."""
        return ClassificationHead(self.labels, self.score.weight.detach(), self.pad_token_id)
