"""What a model costs, counted from its configuration: parameters, arithmetic and memory by component."""

from __future__ import annotations

from dataclasses import dataclass

from gpt_kit.config import ModelConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCounts:
    """Counts of one configuration. Parameters without the rows that pad the vocabulary."""

    parameters: dict[str, int]
    """Parameters by component."""
    forward_flops_per_token: int
    """Multiplications and additions for one token of a full context, matrix products only."""
    training_bytes: int
    """Weights, gradients and two AdamW moments in float32, without activations."""

    @property
    def total_parameters(self) -> int:
        """All parameters; a tied head is counted once."""
        return sum(self.parameters.values())

    @property
    def training_flops_per_token(self) -> int:
        """Forward plus backward: the backward pass costs two forward passes (Kaplan et al. 2020, section 2.1)."""
        return 3 * self.forward_flops_per_token


def count_model(config: ModelConfig) -> ModelCounts:
    """Count `config`. FLOPs follow Chowdhery et al. 2022, appendix B, with attention over half of the context on average."""
    width, inner = config.n_embd, config.inner_width
    attention = 3 * width * width + config.qkv_bias * 3 * width + width * width + width
    feed_forward = 2 * width * inner + inner + width
    norms_per_model = 2 * config.n_layer + (config.norm == "pre")
    parameters = {
        "token embedding": config.vocab_size * width,
        "position embedding": config.max_position_embeddings * width if config.position_embedding == "learned" else 0,
        "attention": config.n_layer * attention,
        "feed-forward": config.n_layer * feed_forward,
        "layer norm": norms_per_model * 2 * width,
        "head": 0 if config.tie_word_embeddings else config.vocab_size * width,
    }
    matrices = config.n_layer * (4 * width * width + 2 * width * inner) + config.vocab_size * width
    attention_scores = config.n_layer * 2 * width * (config.max_position_embeddings + 1) // 2
    return ModelCounts(
        parameters=parameters,
        forward_flops_per_token=2 * (matrices + attention_scores),
        training_bytes=16 * sum(parameters.values()),
    )
