"""What a model costs, counted from its configuration: parameters, arithmetic and memory by component.

Parameters: those that are stored, so a tied head has none, and rows that pad the vocabulary do not count.
FLOPs: the multiplications and additions of matrix products, two per weight and token; look-ups, norms, activations, softmax and
biases are left out (Chowdhery et al. 2022, appendix B). The attention over T tokens costs each of them half of the context on average.
Bytes: weight, gradient and AdamW's two moments in float32, 16 per parameter; activations come on top and depend on the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpt_kit.config import ModelConfig

TRAINING_BYTES_PER_PARAMETER = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCounts:
    """Counts of one configuration. Both dictionaries have the same components, in the order of the computation."""

    parameters: dict[str, int]
    """Parameters by component."""
    forward_flops: dict[str, int]
    """FLOPs of the forward pass for one token of a full context, by component."""

    @property
    def total_parameters(self) -> int:
        """All parameters; a tied head is counted once."""
        return sum(self.parameters.values())

    @property
    def forward_flops_per_token(self) -> int:
        """FLOPs of the forward pass for one token of a full context."""
        return sum(self.forward_flops.values())

    @property
    def training_flops_per_token(self) -> int:
        """Forward plus backward: the backward pass costs two forward passes (Kaplan et al. 2020, section 2.1)."""
        return 3 * self.forward_flops_per_token

    @property
    def training_memory(self) -> dict[str, int]:
        """Bytes of weights, gradients and AdamW moments, by component."""
        return {name: TRAINING_BYTES_PER_PARAMETER * number for name, number in self.parameters.items()}

    @property
    def training_bytes(self) -> int:
        """Bytes of weights, gradients and AdamW moments."""
        return sum(self.training_memory.values())


def count_model(config: ModelConfig) -> ModelCounts:
    """Count `config`."""
    width, inner, vocab, layers = config.n_embd, config.inner_width, config.vocab_size, config.n_layer
    attention = 3 * width * width + config.qkv_bias * 3 * width + width * width + width
    feed_forward = 2 * width * inner + inner + width
    norms_per_model = 2 * layers + (config.norm == "pre")
    scores_and_mixing = width * (config.max_position_embeddings + 1)  # twice C per visible token, of which there are (T + 1) / 2
    parameters = {
        "token embedding": vocab * width,
        "position embedding": config.max_position_embeddings * width if config.position_embedding == "learned" else 0,
        "attention": layers * attention,
        "feed-forward": layers * feed_forward,
        "layer norm": norms_per_model * 2 * width,
        "head": 0 if config.tie_word_embeddings else vocab * width,
    }
    products = {
        "attention": layers * (4 * width * width + scores_and_mixing),
        "feed-forward": layers * 2 * width * inner,
        "head": vocab * width,
    }
    return ModelCounts(parameters=parameters, forward_flops={name: 2 * products.get(name, 0) for name in parameters})
