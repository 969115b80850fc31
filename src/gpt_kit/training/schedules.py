"""The learning rate over a run, as a share of its highest value."""

from __future__ import annotations

import math

from gpt_kit.config import TrainingConfig


def learning_rate_share(step: int, config: TrainingConfig) -> float:
    """The share at update `step` (0, 1, …): a linear rise over warmup_steps, then the fall that `schedule` names.

    Cosine: Loshchilov & Hutter 2017, equation 5. The last update runs at min_learning_rate_ratio.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return 1.0
    low = config.min_learning_rate_ratio
    progress = (step - config.warmup_steps) / max(1, config.max_steps - 1 - config.warmup_steps)
    if config.schedule == "linear":
        return 1 - (1 - low) * min(1.0, progress)
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
