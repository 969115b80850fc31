"""LoRA (Hu et al. 2021): a frozen matrix and a small learned one beside it.

    y = W x + b + alpha / rank · B A x          W (out, in) is not trained, A (rank, in) and B (out, rank) are

One of the two begins as zeros, so the first logits are the base's to the bit. `add_lora` puts such layers in the place of a finished
model's own; they hold the same parameters under the same names, and A and B as `lora_A` and `lora_B`. Nothing else of the model
changes: precision, recomputation, the loss and the cache work as before. The token embedding is a linear layer on one-hot vectors;
where the head is tied to it, both compute with the one merged matrix, so that tying survives.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from gpt_kit.config import LoraConfig
from gpt_kit.errors import ConfigError
from gpt_kit.model import Adapted, Dropout, GPTModel
from gpt_kit.model.linear import linear
from gpt_kit.model.recompute import Layer, computed_again, unchanged

ADAPTER_PARAMETERS = ("lora_A", "lora_B")


class LoraLayer(Adapted):
    """What the two kinds share: W as it is, A (rank, in), B (out, rank) and the factor between."""

    def __init__(self, layer: nn.Linear | nn.Embedding, config: LoraConfig, width_in: int, width_out: int) -> None:
        super().__init__()
        self.weight = layer.weight
        self.factor = config.alpha / config.rank
        self.lora_A = nn.Parameter(self.weight.new_zeros(config.rank, width_in))
        self.lora_B = nn.Parameter(self.weight.new_zeros(width_out, config.rank))


class LoraLinear(LoraLayer):
    """`nn.Linear` with a low-rank update beside it; A is drawn as a linear layer's weight is, B is zero."""

    def __init__(self, layer: nn.Linear, config: LoraConfig) -> None:
        super().__init__(layer, config, layer.in_features, layer.out_features)
        self.bias = layer.bias
        self.dropout = Dropout(config.dropout)
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x: Tensor, before: Layer = unchanged) -> Tensor:
        """(…, in) -> (…, out), reading before(x)."""
        others = before.parameters() if isinstance(before, nn.Module) else ()
        update = computed_again(lambda x: self._update(before(x)), x, parameters=[self.lora_A, self.lora_B, *others])
        return linear(x, self.weight, self.bias, before) + update

    def _update(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(self.dropout(x), self.lora_A) * self.factor, self.lora_B)

    def merged_weight(self) -> Tensor:
        """(out, in)"""
        return self.weight + self.lora_B @ self.lora_A * self.factor


class LoraEmbedding(LoraLayer):
    """`nn.Embedding` with a low-rank update beside it; A (rank, V) is zero, B (C, rank) drawn from N(0, 1) as an embedding is."""

    def __init__(self, layer: nn.Embedding, config: LoraConfig) -> None:
        super().__init__(layer, config, layer.num_embeddings, layer.embedding_dim)
        nn.init.normal_(self.lora_B)

    def forward(self, token_ids: Tensor) -> Tensor:
        """(…) ids -> (…, C)"""
        update = F.linear(F.embedding(token_ids, self.lora_A.T) * self.factor, self.lora_B)
        return F.embedding(token_ids, self.weight) + update

    def merged_weight(self) -> Tensor:
        """(V, C)"""
        return self.weight + (self.lora_B @ self.lora_A * self.factor).T


def add_lora(model: GPTModel, config: LoraConfig) -> None:
    """Freeze the model and put LoRA beside the layers that `config.targets` names; rank 0 changes nothing.

    A and B are drawn from torch's random state. Raises: ConfigError for a head that is tied, or a model that has LoRA already.
    """
    if config.rank == 0:
        return
    if lora_tensors(model):
        raise ConfigError("this model has LoRA layers already. Merge them first (gpt-kit merge), or start from the base")
    if "head" in config.targets and model.head is None:
        raise ConfigError("lora.targets names the head, but this model's head is its token embedding. Name token_embedding instead")
    model.requires_grad_(False)
    for name, layer in list(model.named_modules()):
        parent, _, own_name = name.rpartition(".")
        if own_name in config.targets and isinstance(layer, nn.Linear | nn.Embedding):
            adapted = LoraEmbedding(layer, config) if isinstance(layer, nn.Embedding) else LoraLinear(layer, config)
            setattr(model.get_submodule(parent), own_name, adapted.train(layer.training))


def lora_tensors(model: GPTModel) -> dict[str, Tensor]:
    """Every A and B by name (`blocks.0.attention.qkv.lora_A`), sharing memory with the model, without the rows that pad the vocabulary."""
    found = {name: parameter.detach() for name, parameter in model.named_parameters() if name.endswith(ADAPTER_PARAMETERS)}
    vocab = model.config.vocab_size
    cut = {"token_embedding.lora_A": (slice(None), slice(vocab)), "head.lora_B": (slice(vocab),)}
    return {name: tensor[cut.get(name, ())] for name, tensor in found.items()}
