"""A checkpoint of a LoRA run: A and B alone, some megabytes, beside the path and the hashes of the base that they are added to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from gpt_kit.config import LoraConfig
from gpt_kit.errors import CheckpointError
from gpt_kit.finetuning.lora import lora_tensors
from gpt_kit.model import GPTModel
from gpt_kit.weights import check_base, hash_weights, read_adapter, write_adapter, write_base


class AdapterFiles:
    """How the adapters of one run lie on disk (`training.ModelFiles`)."""

    def __init__(self, lora: LoraConfig, base: Path) -> None:
        """`base` is the folder that the model came from, before `add_lora`. Raises: CheckpointError where it holds no whole model."""
        self.lora, self.base = lora, base
        self.base_files = hash_weights(base)

    def tensors(self, model: GPTModel) -> dict[str, Tensor]:
        """A and B."""
        return lora_tensors(model)

    def write(self, folder: Path, model: GPTModel, tensors: Mapping[str, Tensor], end_of_text_id: int | None) -> None:  # noqa: ARG002
        """adapter_config.json, adapter_model.safetensors, adapter_base.json."""
        write_adapter(folder, model.config, self.lora, tensors, self.base)
        write_base(folder, self.base_files)

    def read(self, folder: Path, model: GPTModel) -> None:
        """A and B back into a model with LoRA, to the bit. Raises: CheckpointError for another base or other settings of LoRA."""
        check_base(folder, self.base)
        adapter = read_adapter(folder, model.config)
        own = lora_tensors(model)
        found = {
            f"{layer}.lora_{letter}": tensor for layer, pair in adapter.updates.items() for letter, tensor in zip("AB", pair, strict=True)
        }
        had = (adapter.alpha, adapter.dropout, {name: tensor.shape for name, tensor in found.items()})
        if had != (self.lora.alpha, self.lora.dropout, {name: tensor.shape for name, tensor in own.items()}):
            raise CheckpointError(f"{folder}: the run was started with other settings under [lora]. Resume with those it has")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(found[name])
