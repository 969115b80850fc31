"""The GPT: embeddings, blocks, head.

    token ids (B, T) -> embeddings (B, T, C) -> n_layer blocks (B, T, C) -> logits (B, T, V)

GPT-1 and GPT-2 are two configurations of it. Everything else (loss on a batch, training, several devices) wraps it from outside.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gpt_kit.config import ModelConfig
from gpt_kit.errors import CheckpointError, InputError
from gpt_kit.files import atomic_folder
from gpt_kit.model.adapted import Adapted, weight_of
from gpt_kit.model.block import TransformerBlock
from gpt_kit.model.cache import KVCache
from gpt_kit.model.dropout import Dropout
from gpt_kit.model.init import initialize, new_embedding
from gpt_kit.model.layers import LayerNorm
from gpt_kit.model.loss import linear_cross_entropy_sum
from gpt_kit.model.mask import positions_from_mask, positions_in_documents, visible_in_trees, visible_keys
from gpt_kit.model.positions import rotary_tables, sinusoids
from gpt_kit.model.tied import TiedGradient, embed_tied, tied_gradient
from gpt_kit.weights import load_weights, save_weights


class GPTModel(nn.Module):
    """A decoder-only transformer with a language-model head (Radford et al. 2018, section 3.1; 2019, section 2.3)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.activation_checkpointing = False
        self.token_embedding = new_embedding(config.padded_vocab_size, config.n_embd)
        self.position_embedding = (
            new_embedding(config.max_position_embeddings, config.n_embd) if config.position_embedding == "learned" else None
        )
        self.embedding_dropout = Dropout(config.embedding_dropout)
        self.blocks = nn.ModuleList(TransformerBlock(config, layer) for layer in range(config.n_layer))
        self.final_norm = LayerNorm(config.n_embd, config.layer_norm_epsilon) if config.norm == "pre" else nn.Identity()
        self.head = None if config.tie_word_embeddings else nn.Linear(config.n_embd, config.padded_vocab_size, bias=False)
        initialize(self, config)

    def forward(
        self,
        token_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        document_ids: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """(B, T) token ids -> (B, T, V) logits of the next token.

        `attention_mask` (B, T) is 0 at padding, left or right; positions count real tokens only. `document_ids` (B, T) keeps
        packed documents apart. With a `cache`, the T tokens follow those already in it. Raises: InputError past the context.
        """
        hidden = self.hidden_states(token_ids, attention_mask, document_ids, cache)
        return F.linear(hidden, self._padded_head_weight)[..., : self.config.vocab_size]

    def loss_sum(
        self, token_ids: Tensor, targets: Tensor, attention_mask: Tensor | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        """Sum of the negative log-likelihoods of all scored targets (not IGNORE_INDEX), in nats. The logits are never held whole."""
        tied = None if self.head is not None else tied_gradient(self.token_embedding)
        hidden = self.hidden_states(token_ids, attention_mask, document_ids, tied=tied)
        return linear_cross_entropy_sum(hidden, self._padded_head_weight, targets, self.config.vocab_size, tied)

    def hidden_states(
        self,
        token_ids: Tensor,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        cache: KVCache | None = None,
        tied: TiedGradient | None = None,
        *,
        subtree_ends: Tensor | None = None,
    ) -> Tensor:
        """(B, T) token ids -> (B, T, C): what the head reads. Arguments as for `forward`; `tied` is the loss's own (tied.py).

        With `subtree_ends` (B, T) each row is a tree of texts that begin alike (`visible_in_trees`). No branch of it may be longer than
        the context; T may.
        """
        if subtree_ends is None:
            self._check_context(token_ids, cache)
            visible, positions = self._attention_pattern(token_ids, attention_mask, document_ids, cache)
        else:
            visible = visible_in_trees(subtree_ends)
            positions = visible[:, 0].sum(dim=-1) - 1  # as many as it continues
        rotary = rotary_tables(positions, self.config.head_width) if self.config.position_embedding == "rotary" else None
        x = self.embedding_dropout(self.embed(token_ids, positions, tied))
        for block in self.blocks:
            if self.activation_checkpointing and self.training:
                x = checkpoint(block, x, visible, rotary, use_reentrant=False)
            else:
                x = block(x, visible, rotary, cache)
        if cache is not None:
            cache.length += token_ids.shape[1]
        return self.final_norm(x)  # type: ignore[no-any-return]

    def embed(self, token_ids: Tensor, positions: Tensor, tied: TiedGradient | None = None) -> Tensor:
        """(…) ids and their positions -> (…, C): what the first block reads, before dropout."""
        x = self.token_embedding(token_ids) if tied is None else embed_tied(token_ids, self.token_embedding.weight, tied)
        if self.config.scale_embeddings:
            x = x * math.sqrt(self.config.n_embd)
        if self.position_embedding is not None:
            x = x + self.position_embedding(positions)
        elif self.config.position_embedding == "sinusoidal":
            x = x + sinusoids(positions, self.config.n_embd).to(x.dtype)
        return x

    @property
    def head_weight(self) -> Tensor:
        """(V, C): the rows that score tokens; those that only pad the vocabulary are left out."""
        return self._padded_head_weight[: self.config.vocab_size]

    @property
    def _padded_head_weight(self) -> Tensor:
        return weight_of(self.token_embedding if self.head is None else self.head)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take weights by name. Raises: CheckpointError naming the parameter and both shapes, before anything is changed."""
        own = self._own_tensors()
        for name in sorted(own.keys() | tensors.keys()):
            if name not in tensors or name not in own:
                where = "missing from what was read" if name in own else "unknown to this model"
                raise CheckpointError(f"the weight {name} is {where}. The weights and the configuration belong to different models")
            if own[name].shape != tensors[name].shape:
                found, expected = tuple(tensors[name].shape), tuple(own[name].shape)
                raise CheckpointError(f"the weight {name} has shape {found}; this model expects {expected}")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(tensors[name])

    @torch.no_grad()
    def exported_tensors(self) -> dict[str, Tensor]:
        """All weights by name, sharing memory with the model, without the rows that pad the vocabulary.

        Where adapters are in place, those of adapted layers are merged with them: new tensors, in which the model computes the same.
        """
        adapted = {f"{name}.weight": layer for name, layer in self.named_modules() if isinstance(layer, Adapted)}
        merged = {name: self._without_padding(name, layer.merged_weight()) for name, layer in adapted.items()}
        return self._own_tensors() | merged

    def _own_tensors(self) -> dict[str, Tensor]:
        """The weights themselves, whatever adapters add to them."""
        own = {name: parameter.detach() for name, parameter in self.named_parameters() if name.endswith((".weight", ".bias"))}
        return {name: self._without_padding(name, tensor) for name, tensor in own.items()}

    def _without_padding(self, name: str, tensor: Tensor) -> Tensor:
        return tensor[: self.config.vocab_size] if name in ("token_embedding.weight", "head.weight") else tensor

    def resize_vocabulary(self, vocab_size: int) -> None:
        """Append tokens to the vocabulary; their rows are the mean of all others, so that they begin as no surprise (Hewitt 2021).

        A tied head stays tied. Raises: InputError for a smaller vocabulary, which would cut tokens off.
        """
        had = self.config.vocab_size
        if vocab_size < had:
            raise InputError(f"a vocabulary of {vocab_size} entries was asked for; this model has {had}, and none can be taken away")
        self.config = dataclasses.replace(self.config, vocab_size=vocab_size)
        for layer in (self.token_embedding, self.head):
            if layer is not None and vocab_size > had:
                old = layer.weight.detach()[:had]
                rows = torch.zeros(self.config.padded_vocab_size, self.config.n_embd, device=old.device, dtype=old.dtype)
                rows[:had], rows[had:vocab_size] = old, old.mean(dim=0)
                layer.weight = nn.Parameter(rows)
        self.token_embedding.num_embeddings = self.config.padded_vocab_size
        if self.head is not None:
            self.head.out_features = self.config.padded_vocab_size

    @classmethod
    def from_pretrained(cls, model: str | Path) -> GPTModel:
        """The model that MODEL names: a run, a checkpoint, a Hugging Face folder or hub name, or OpenAI's release files.

        One forward pass shows that the weights are usable. Raises: CheckpointError for what is missing, damaged or of another shape.
        """
        weights = load_weights(model)
        with torch.device("meta"):  # no time or memory for initial weights that are about to be replaced
            built = cls(weights.config)
        return built._filled(weights.tensors, model)

    def _filled(self, tensors: Mapping[str, Tensor], where: str | Path) -> Self:
        """A model without data, with those weights, tried."""
        self.to_empty(device="cpu")
        with torch.no_grad():
            for name in ("token_embedding.weight", "head.weight"):
                if name in dict(self.named_parameters()):
                    self.get_parameter(name)[self.config.vocab_size :] = 0
        self.load_tensors(tensors)
        self.eval()
        with torch.inference_mode():
            if not self(torch.zeros(1, 1, dtype=torch.long)).isfinite().all():
                raise CheckpointError(f"{where}: a forward pass with these weights gives values that are not finite. The file is damaged")
        return self

    def save_pretrained(self, folder: str | Path, *, end_of_text_id: int | None = None) -> None:
        """Write a Hugging Face folder, whole or not at all. `transformers` opens it as it lies there (add the tokenizer's files).

        Where the folder exists, a model in it is replaced and every other file stays.
        """
        with atomic_folder(Path(folder), keep_others=True) as temporary:
            save_weights(temporary, self.config, self.exported_tensors(), end_of_text_id=end_of_text_id)

    def _attention_pattern(
        self, token_ids: Tensor, attention_mask: Tensor | None, document_ids: Tensor | None, cache: KVCache | None
    ) -> tuple[Tensor | None, Tensor]:
        """Which keys each query sees, (B, 1, T, S) or None for plain causal, and the positions of the T tokens, (B or 1, T)."""
        num_new = token_ids.shape[1]
        if cache is not None:
            new = torch.ones_like(token_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
            cache.has_padding |= attention_mask is not None
            key_mask = cache.extend_mask(new)
            if not cache.has_padding and (cache.length == 0 or num_new == 1):
                return None, torch.arange(cache.length, cache.length + num_new, device=token_ids.device)[None]
            return visible_keys(num_new, key_mask), positions_from_mask(key_mask)[:, -num_new:]
        if attention_mask is None and document_ids is None:
            return None, torch.arange(num_new, device=token_ids.device)[None]
        key_mask = torch.ones_like(token_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        positions = positions_from_mask(key_mask) if document_ids is None else positions_in_documents(document_ids)
        return visible_keys(num_new, key_mask, document_ids), positions

    def _check_context(self, token_ids: Tensor, cache: KVCache | None) -> None:
        length = token_ids.shape[1] + (cache.length if cache is not None else 0)
        if length > self.config.max_position_embeddings:
            raise InputError(
                f"{length} tokens are longer than this model's context of {self.config.max_position_embeddings}. "
                "Give it the last part of the text only"
            )
