"""MODEL in any of its forms, and the room's own rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gpt_kit.config import create_model_config
from gpt_kit.errors import CheckpointError
from gpt_kit.files import MANIFEST, atomic_folder, check_manifest
from gpt_kit.weights import load_weights, parameter_shapes, save_weights


def test_a_folder_of_no_known_form_is_refused_with_the_list(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    with pytest.raises(CheckpointError, match=r"config\.json \(Hugging Face\), hparams\.json .*, params_shapes\.json"):
        load_weights(tmp_path)
    with pytest.raises(CheckpointError, match="no such folder"):
        load_weights(tmp_path / "absent")


def test_config_without_weights_says_which_files_are_missing(config_of: Any, tensors_of: Any, tmp_path: Path) -> None:
    save_weights(tmp_path, config_of(), tensors_of(config_of()))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor model\.safetensors\.index\.json"):
        load_weights(tmp_path)


def test_a_run_is_read_through_its_best_checkpoint(config_of: Any, tensors_of: Any, tmp_path: Path) -> None:
    """Written inside `atomic_folder` as training does, with a manifest over all three files."""
    config = config_of()
    for step, factor in (("step-1", 1.0), ("step-2", 2.0)):
        with atomic_folder(tmp_path / "checkpoints" / step) as folder:
            save_weights(folder, config, {name: factor * tensor for name, tensor in tensors_of(config).items()}, end_of_text_id=3)
    (tmp_path / "checkpoints" / "best").write_text("step-1")
    (tmp_path / "checkpoints" / "last").write_text("step-2")
    best = tmp_path / "checkpoints" / "step-1"
    assert {file.name for file in best.iterdir()} == {"config.json", "generation_config.json", "model.safetensors", MANIFEST}
    check_manifest(best)
    assert torch.equal(load_weights(tmp_path).tensors["final_norm.bias"], tensors_of(config)["final_norm.bias"])


def test_parameters_under_training_can_be_saved(config_of: Any, tensors_of: Any, tmp_path: Path) -> None:
    """What a model hands over: parameters that require gradients, in half precision, the embedding a slice of a padded one."""
    config = config_of(vocab_multiple=64)
    tensors = {name: torch.nn.Parameter(tensor.bfloat16()) for name, tensor in tensors_of(config).items()}
    padded = torch.nn.Parameter(torch.zeros(64, 24))
    save_weights(tmp_path, config, {**tensors, "token_embedding.weight": padded[:61]})
    found = load_weights(tmp_path).tensors
    assert not any(tensor.requires_grad for tensor in found.values())
    assert torch.equal(found["blocks.1.attention.qkv.weight"], tensors["blocks.1.attention.qkv.weight"].detach().float())
    assert (tmp_path / "model.safetensors").stat().st_size < 4 * sum(tensor.numel() for tensor in found.values()) + 5000


def test_the_parameters_of_the_published_models_are_counted_right() -> None:
    """124,439,808 and 116,534,784 parameters: GPT-2 small and GPT-1, as transformers counts them."""
    for name, expected in (("gpt2", 124_439_808), ("openai-gpt", 116_534_784)):
        assert sum(torch.Size(shape).numel() for shape in parameter_shapes(create_model_config(name)).values()) == expected


def test_a_flipped_bit_is_found_before_the_weights_are_used(config_of: Any, tensors_of: Any, tmp_path: Path) -> None:
    """safetensors would load it happily; the manifest that the kit writes does not match."""
    with atomic_folder(tmp_path / "model") as folder:
        save_weights(folder, config_of(), tensors_of(config_of()))
    file = tmp_path / "model" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not match its manifest"):
        load_weights(tmp_path / "model")
    (tmp_path / "model" / MANIFEST).unlink()
    load_weights(tmp_path / "model")
