"""LoRA: which layers learn a low-rank update beside their own weight, and how large it is (Hu et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gpt_kit.config.run import check_section
from gpt_kit.errors import ConfigError

LoraTarget = Literal["qkv", "projection", "expand", "contract", "token_embedding", "head"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """A target's weight W becomes W + alpha / rank * B A, of which only A (rank, in) and B (out, rank) are trained."""

    rank: int = 0
    """Rows of A and columns of B, often 4 to 64; 0 means no LoRA: the weights themselves are trained.
    With LoRA the usual learning rate is 2e-4."""
    alpha: float = 16.0
    """The update is multiplied by alpha / rank; above 0."""
    dropout: float = 0.0
    """Share of a linear layer's inputs hidden from A in training, 0 to below 1."""
    targets: tuple[LoraTarget, ...] = ("qkv", "projection", "expand", "contract")
    """Layers that learn: attention's qkv and projection, the feed-forward's expand and contract, token_embedding (a tied head learns
    with it), or the head of a model that has its own."""

    def __post_init__(self) -> None:
        check_section("lora", self, {"rank": 0}, below_one=("dropout",))
        if not self.alpha > 0:
            raise ConfigError(f"lora.alpha must be above 0; got {self.alpha}. Often it is once or twice the rank")
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise ConfigError(f"lora.targets must name one layer or more, each once; got {', '.join(self.targets) or 'none'}")
