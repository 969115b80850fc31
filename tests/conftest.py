"""What all tests share: no network, the real texts where they exist, and tiny models in which every dimension differs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers or the hub are imported: no test may reach for the network
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side; two threads each on two cores would wait for one another

import pytest
import torch

from gpt_kit.config import ModelConfig
from gpt_kit.model import GPTModel


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The real texts: GPT_KIT_TEST_DATA, or ../shared/data beside the checkout."""
    folder = Path(os.environ.get("GPT_KIT_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist; GPT_KIT_TEST_DATA can name another folder")
    return folder


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., ModelConfig]:
    """V=61, T=11, C=24, H=3, D=8, L=2, I=40 and no dropout, with changes by keyword."""
    sizes: dict[str, Any] = {
        "vocab_size": 61, "max_position_embeddings": 11, "n_embd": 24, "n_head": 3, "n_layer": 2, "n_inner": 40,
        "embedding_dropout": 0.0, "attention_dropout": 0.0, "residual_dropout": 0.0,
    }  # fmt: skip
    return lambda **changes: ModelConfig(**{**sizes, **changes})


@pytest.fixture(scope="session")
def random_model() -> Callable[..., GPTModel]:
    """A model in eval mode whose every parameter is random: a fresh one has norms of 1 and biases of 0, which hide mistakes."""

    def make(config: ModelConfig, *, std: float = 0.2, seed: int = 3) -> GPTModel:
        model = GPTModel(config).eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.normal_(0.0, std, generator=generator)
                if "norm" in name and name.endswith("weight"):
                    parameter.add_(1.0)
        return model

    return make
