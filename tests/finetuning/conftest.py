"""A model with LoRA in which neither A nor B is zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gpt_kit.config import LoraConfig, ModelConfig
from gpt_kit.finetuning import add_lora
from gpt_kit.model import GPTModel


@pytest.fixture
def lora_model(random_model: Callable[..., GPTModel]) -> Callable[..., GPTModel]:
    """(config, **LoRA settings) -> a model in eval mode, rank 3 where nothing else is said, as if trained already."""

    def make(config: ModelConfig, **settings: Any) -> GPTModel:
        model = random_model(config)
        add_lora(model, LoraConfig(**{"rank": 3, "alpha": 5.0, **settings}))
        generator = torch.Generator().manual_seed(11)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.normal_(0.0, 0.2, generator=generator)
        return model

    return make
