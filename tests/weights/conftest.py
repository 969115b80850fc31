"""Tiny models in which every dimension differs, so that a swapped axis cannot pass."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from gpt_kit.config import ModelConfig
from gpt_kit.weights import parameter_shapes

SIZES = {"vocab_size": 61, "max_position_embeddings": 11, "n_embd": 24, "n_head": 3, "n_layer": 2}


@pytest.fixture
def config_of() -> Callable[..., ModelConfig]:
    """V=61, P=11, C=24, H=3, L=2, I=40, with changes by keyword."""
    return lambda **changes: ModelConfig(**{**SIZES, "n_inner": 40, **changes})


@pytest.fixture
def tensors_of() -> Callable[[ModelConfig], dict[str, Tensor]]:
    """Random parameters for a config: norms and biases too, which are all 1 and 0 in a fresh model and would hide a mix-up."""

    def make(config: ModelConfig) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(7)
        return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in parameter_shapes(config).items()}

    return make


@pytest.fixture
def transformers_log() -> Iterator[list[str]]:
    """What transformers logs as a warning or worse: missing, unexpected and newly initialised weights are reported there."""

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    messages: list[str] = []
    collector = Collector(level=logging.WARNING)
    logging.getLogger("transformers").addHandler(collector)
    yield messages
    logging.getLogger("transformers").removeHandler(collector)
