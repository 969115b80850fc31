"""Make one part of a run take long, so that a signal is sure to fall into it. Each says so on stdout when it begins."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

SLOW = "the slow part has begun"


def _slowed(owner: Any, name: str, seconds: float, counts: Callable[..., bool] = lambda *_: True) -> None:
    original = getattr(owner, name)

    def slowed(*arguments: Any, **named: Any) -> Any:
        if counts(*arguments):
            print(SLOW, flush=True)
            time.sleep(seconds)
        return original(*arguments, **named)

    setattr(owner, name, slowed)


def slow_save() -> None:
    """4.5 seconds: a checkpoint has three files of tensors."""
    import safetensors.torch

    _slowed(safetensors.torch, "save_file", 1.5)


def slow_evaluation() -> None:
    """12 seconds over the three batches of one."""
    from gpt_kit.model import GPTModel

    _slowed(GPTModel, "loss_sum", 4, lambda model, *_: not model.training)


def slow_step() -> None:
    """18 seconds: three micro-batches through two blocks."""
    from gpt_kit.model import TransformerBlock

    _slowed(TransformerBlock, "forward", 3, lambda block, *_: block.training)


def slow_sample() -> None:
    """20 seconds: 100 tokens, none of which ends the text."""
    from gpt_kit.generation import Sampling

    scores = Sampling.scores

    def not_the_end(sampling: Sampling, *arguments: Any) -> Any:
        found = scores(sampling, *arguments)
        found[:, 100:] = -math.inf
        return found

    Sampling.scores = not_the_end  # type: ignore[method-assign]
    _slowed(Sampling, "scores", 0.2)
