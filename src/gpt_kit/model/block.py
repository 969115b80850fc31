"""One transformer block: tokens exchange (attention), then each thinks for itself (feed-forward)."""

from __future__ import annotations

from torch import Tensor, nn

from gpt_kit.config import ModelConfig
from gpt_kit.model.attention import MultiHeadAttention
from gpt_kit.model.cache import KVCache
from gpt_kit.model.layers import FeedForward, LayerNorm


class TransformerBlock(nn.Module):
    """Two residual layers. GPT-2 normalises their inputs (pre), GPT-1 their sums (post)."""

    def __init__(self, config: ModelConfig, layer: int = 0) -> None:
        super().__init__()
        self.pre_norm = config.norm == "pre"
        self.attention = MultiHeadAttention(config, layer)
        self.attention_norm = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = LayerNorm(config.n_embd, config.layer_norm_epsilon)

    def forward(
        self,
        x: Tensor,
        visible: Tensor | None = None,
        rotary: tuple[Tensor, Tensor] | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """(B, T, C) -> (B, T, C); see MultiHeadAttention for the rest."""
        if self.pre_norm:
            x = x + self.attention(x, visible, rotary, cache, norm=self.attention_norm)
            x = x + self.feed_forward(x, norm=self.feed_forward_norm)
            return x
        x = self.attention_norm(x + self.attention(x, visible, rotary, cache))
        x = self.feed_forward_norm(x + self.feed_forward(x))
        return x
