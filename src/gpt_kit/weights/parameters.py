"""The parameters of a model by the kit's own names: which ones a ModelConfig has, and their shapes.

V vocabulary, P positions, C channels, I inner width. Matrices are (out, in) as in `torch.nn.Linear`; Q, K and V are stacked
in that order. Every reader ends in `checked` and every writer begins with it, so nothing unknown, missing or of another
shape passes in either direction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpt_kit.config import ModelConfig
from gpt_kit.errors import CheckpointError, DataError
from gpt_kit.files import read_json

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ClassificationHead:
    """What scores labels from the hidden state of a text's last token, as transformers' …ForSequenceClassification do."""

    labels: tuple[str, ...]
    """The names of the labels 0, 1, …"""
    weight: Tensor
    """(N, C): one row per label."""
    pad_token_id: int | None
    """What fills rows up; transformers finds the last token of a text by it."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A model as it lies on disk: its shape and its parameters by kit names (float32, CPU, vocab_size rows)."""

    config: ModelConfig
    tensors: dict[str, Tensor]
    classification: ClassificationHead | None = None


def parameter_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Every parameter of the model and its shape, in the order of the computation."""
    vocab, width, inner = config.vocab_size, config.n_embd, config.inner_width
    shapes: dict[str, Shape] = {"token_embedding.weight": (vocab, width)}
    if config.position_embedding == "learned":
        shapes["position_embedding.weight"] = (config.max_position_embeddings, width)
    for i in range(config.n_layer):
        block = f"blocks.{i}."
        for norm in ("attention_norm", "feed_forward_norm"):
            shapes[f"{block}{norm}.weight"] = shapes[f"{block}{norm}.bias"] = (width,)
        for layer, rows, columns in (
            ("attention.qkv", 3 * width, width),
            ("attention.projection", width, width),
            ("feed_forward.expand", inner, width),
            ("feed_forward.contract", width, inner),
        ):
            shapes[f"{block}{layer}.weight"] = (rows, columns)
            if layer != "attention.qkv" or config.qkv_bias:
                shapes[f"{block}{layer}.bias"] = (rows,)
    if config.norm == "pre":
        shapes["final_norm.weight"] = shapes["final_norm.bias"] = (width,)
    if not config.tie_word_embeddings:
        shapes["head.weight"] = (vocab, width)
    return shapes


def checked(tensors: Mapping[str, Tensor], shapes: Mapping[str, Shape], where: object) -> dict[str, Tensor]:
    """`tensors` in the order of `shapes`, as float32 on the CPU, when names and shapes agree exactly.

    Args:
        tensors: by the names that `shapes` uses.
        shapes: what the config asks for.
        where: the file or folder that an error should name.
    Raises: CheckpointError that names what is missing, unknown, of another shape, or not floating-point.
    """
    missing = [name for name in shapes if name not in tensors]
    unknown = [name for name in tensors if name not in shapes]
    problems = []
    if missing:
        problems.append(f"{_some(missing)} missing")
    if unknown:
        problems.append(f"{_some(unknown)} unknown to this config")
    if problems:
        raise CheckpointError(
            f"{where}: {len(tensors)} tensors, expected {len(shapes)}: {'; '.join(problems)}. "
            "Check that config and weights come from the same model"
        )
    for name, shape in shapes.items():
        found = tensors[name]
        if found.shape != shape:
            raise CheckpointError(
                f"{where}: {name} has shape {tuple(found.shape)}, but the config asks for {shape}. "
                "Check that config and weights come from the same model"
            )
        if not found.is_floating_point():
            raise CheckpointError(
                f"{where}: {name} holds {found.dtype}; expected floating-point numbers. Use the weights from before quantization"
            )
    return {name: tensors[name].detach().to("cpu", torch.float32) for name in shapes}


def read_model_json(file: Path) -> Any:
    """`files.read_json` for a file of a model. Raises: CheckpointError where that raises DataError."""
    try:
        return read_json(file)
    except DataError as error:
        raise CheckpointError(f"{error}. Download or save the model again") from None


def _some(names: Collection[str], limit: int = 3) -> str:
    """`a, b, c and 9 more`: enough to see the pattern on one line."""
    listed = ", ".join(list(names)[:limit])
    return f"{listed} and {len(names) - limit} more" if len(names) > limit else listed
