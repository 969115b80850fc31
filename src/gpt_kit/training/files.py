"""How a model lies in a checkpoint: all of it, or only what a run adds to a model that lies elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from torch import Tensor

from gpt_kit.config import ModelConfig
from gpt_kit.errors import CheckpointError
from gpt_kit.model import GPTModel
from gpt_kit.weights import load_weights, save_weights


class ModelFiles(Protocol):
    """The three things a checkpoint asks."""

    def tensors(self, model: GPTModel) -> dict[str, Tensor]:
        """What is to be kept, by name, sharing memory with the model."""

    def write(self, folder: Path, model: GPTModel, tensors: Mapping[str, Tensor], end_of_text_id: int | None) -> None:
        """Write those tensors, gathered from all processes, into an existing folder."""

    def read(self, folder: Path, model: GPTModel) -> None:
        """Put back what `write` wrote, from a checkpoint that was checked, before the model is spread over several processes.

        Raises: CheckpointError for a folder of another model.
        """


class WholeModel:
    """A Hugging Face folder."""

    def tensors(self, model: GPTModel) -> dict[str, Tensor]:
        """All weights."""
        return model.exported_tensors()

    def write(self, folder: Path, model: GPTModel, tensors: Mapping[str, Tensor], end_of_text_id: int | None) -> None:
        """config.json, generation_config.json, model.safetensors."""
        save_weights(folder, model.config, tensors, end_of_text_id=end_of_text_id)

    def read(self, folder: Path, model: GPTModel) -> None:
        """Raises: CheckpointError naming every setting in which the models differ."""
        weights = load_weights(folder, verify=False)
        refuse_other_model(folder, weights.config, model.config)
        model.load_tensors(weights.tensors)


WHOLE_MODEL = WholeModel()


def refuse_other_model(folder: Path, had: ModelConfig, wanted: ModelConfig) -> None:
    """Raises: CheckpointError naming every setting in which they differ."""
    changed = [
        f"{f.name} is {getattr(wanted, f.name)}, was {getattr(had, f.name)}"
        for f in dataclasses.fields(had)
        if getattr(wanted, f.name) != getattr(had, f.name)
    ]
    if changed:
        raise CheckpointError(f"{folder}: the run was started with another model ({'; '.join(changed)}). Resume with the same settings")
