"""The front door: every public name is there, from the package and from the room it lives in; opening it costs nothing."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module

import pytest

import gpt_kit

FIXED = {
    "gpt_kit.config": ["create_model_config"],
    "gpt_kit.model": ["GPTModel", "LayerNorm", "GELU", "FeedForward", "MultiHeadAttention", "TransformerBlock"],
    "gpt_kit.data": ["GPTPretrainingDataset", "create_pretraining_dataloader", "InstructionDataset", "create_instruction_collate_fn"],
    "gpt_kit.training": ["compute_batch_loss", "train_step_with_gradient_clipping", "compute_loader_loss"],
    "gpt_kit.evaluation": ["generate_text_autoregressive", "text_to_token_ids", "token_ids_to_text"],
    "gpt_kit.amp": ["AMPTrainer"],
}


@pytest.mark.parametrize(("module", "names"), FIXED.items())
def test_the_fixed_names_are_in_their_rooms_and_at_the_front(module: str, names: list[str]) -> None:
    for name in names:
        assert getattr(import_module(module), name) is getattr(gpt_kit, name)
        assert name in gpt_kit.__all__


def test_every_public_name_resolves_and_is_explained() -> None:
    for name in gpt_kit.__all__:
        value = getattr(gpt_kit, name)
        if name != "__version__":
            assert inspect.getdoc(value), name
    assert set(dir(gpt_kit)) == set(gpt_kit.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'gpt_kit' has no attribute 'GPT'"):
        _ = gpt_kit.GPT


@pytest.mark.parametrize("module", ["gpt_kit", "gpt_kit.config", "gpt_kit.tokenizers", "gpt_kit.cli", "gpt_kit.errors"])
def test_importing_it_imports_no_torch(module: str) -> None:
    heavy = ("torch", "transformers", "tiktoken", "tokenizers", "matplotlib")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
