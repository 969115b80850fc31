"""GPT-1 as OpenAI released it: `params_shapes.json` and `params_0.npy` to `params_9.npy`.

The pieces are one long float32 vector. Cut at the products of the shapes it gives the parameters, in this order: positions
(P, C), tokens (V, C), and per block the rows of names.BLOCK_ROWS. Where `parameters_names.json` stands beside it, its order counts.
The number of heads is in no file: it is C / 64, which is the released model's 12; for any other size that is an assumption.
Source: github.com/openai/finetune-transformer-lm, train.py (`init_params`: element 0 is positions, element 1 tokens).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt_kit.config import ModelConfig, create_model_config
from gpt_kit.errors import CheckpointError, ConfigError
from gpt_kit.weights.names import BLOCK_ROWS, from_published, published_shapes, without_kernel_axis
from gpt_kit.weights.parameters import Shape, Weights, checked, parameter_shapes, read_model_json

HEAD_WIDTH = 64
POSITIONS, TOKENS = "model/wpe", "model/wte"  # GPT-2's names: GPT-1 joins both tables into one variable, model/we


def load_openai_gpt1(folder: Path) -> Weights:
    """Read OpenAI's folder. Raises: CheckpointError when a file is missing or damaged, or shapes and values do not agree."""
    shapes = _read_shapes(folder / "params_shapes.json")
    names = _read_names(folder / "parameters_names.json", len(shapes)) or _names_by_order(folder, len(shapes))
    tensors = dict(zip(names, _cut(_read_pieces(folder), shapes, folder), strict=True))
    config = _config(tensors, folder)
    kit_shapes = parameter_shapes(config)
    found = checked(tensors, published_shapes(kit_shapes, "openai"), folder)
    return Weights(config, from_published(found, kit_shapes, "openai"))


def _read_shapes(file: Path) -> list[Shape]:
    shapes = _read_list(file)
    if not all(isinstance(shape, list) and shape and all(type(size) is int and size > 0 for size in shape) for shape in shapes):
        raise CheckpointError(f"{file}: expected a list of shapes such as [[512, 768], [40478, 768], ...]. Download it again")
    return [tuple(shape) for shape in shapes]


def _read_names(file: Path, num_parameters: int) -> list[str]:
    """The parameters' names, or [] when there is no such file. It lists `model/we` once, for positions and tokens."""
    if not file.is_file():
        return []
    names = [str(name).removesuffix(":0") for name in _read_list(file)]
    names = [name for name in names if not name.startswith("model/clf/")]  # the classifier's, which the release leaves out
    if names[:1] == ["model/we"]:
        names[:1] = [POSITIONS, TOKENS]
    if len(names) != num_parameters or len(set(names)) != len(names):
        raise CheckpointError(f"{file}: names {len(names)} parameters, but params_shapes.json has {num_parameters}. Download both again")
    return names


def _names_by_order(folder: Path, num_parameters: int) -> list[str]:
    num_blocks, rest = divmod(num_parameters - 2, len(BLOCK_ROWS))
    if num_blocks < 1 or rest:
        raise CheckpointError(
            f"{folder}: params_shapes.json lists {num_parameters} parameters; expected 2 embeddings and {len(BLOCK_ROWS)} "
            "for every block (146 in the release). Download it again"
        )
    return [POSITIONS, TOKENS, *(row.openai.replace("*", str(i)) for i in range(num_blocks) for row in BLOCK_ROWS)]


def _read_pieces(folder: Path) -> Tensor:
    """All params_N.npy one after the other."""
    pieces: list[NDArray[np.float32]] = []
    while (file := folder / f"params_{len(pieces)}.npy").is_file():
        try:
            pieces.append(np.load(file, allow_pickle=False))
        except (ValueError, EOFError, OSError) as error:
            raise CheckpointError(f"{file}: not a whole array of numbers ({error}). Download it again") from None
        if pieces[-1].dtype != np.float32 or pieces[-1].ndim != 1:
            found = f"{pieces[-1].dtype} of shape {pieces[-1].shape}"
            raise CheckpointError(f"{file}: holds {found}; expected one row of float32. Download it again")
    if not pieces:
        raise CheckpointError(f"{folder}: params_shapes.json is there, but not params_0.npy. Download params_0.npy to params_9.npy")
    return torch.from_numpy(np.concatenate(pieces))


def _cut(values: Tensor, shapes: list[Shape], folder: Path) -> list[Tensor]:
    sizes = [math.prod(shape) for shape in shapes]
    if values.numel() != sum(sizes):
        raise CheckpointError(
            f"{folder}: params_*.npy hold {values.numel():,} numbers, but params_shapes.json asks for {sum(sizes):,}. "
            "A piece is missing or cut short; download it again"
        )
    pieces = zip(torch.split(values, sizes), shapes, strict=True)
    return [without_kernel_axis(piece.reshape(shape)).clone() for piece, shape in pieces]


def _config(tensors: dict[str, Tensor], folder: Path) -> ModelConfig:
    positions, tokens = tensors.get(POSITIONS), tensors.get(TOKENS)
    if positions is None or tokens is None or positions.ndim != 2 or tokens.ndim != 2:
        raise CheckpointError(f"{folder}: the first two parameters should be positions (P, C) and tokens (V, C). Download it again")
    width = tokens.shape[1]
    if width % HEAD_WIDTH:
        raise CheckpointError(
            f"{folder}: width {width} is not a multiple of {HEAD_WIDTH}. The files do not say how many heads there are, "
            f"and gpt-kit takes heads of {HEAD_WIDTH} channels. Convert the model to a Hugging Face folder, which says it"
        )
    try:
        return create_model_config(
            "openai-gpt",
            vocab_size=tokens.shape[0],
            max_position_embeddings=positions.shape[0],
            n_embd=width,
            n_layer=(len(tensors) - 2) // len(BLOCK_ROWS),
            n_head=width // HEAD_WIDTH,
        )
    except ConfigError as error:
        raise CheckpointError(f"{folder}: {error}") from None


def _read_list(file: Path) -> list[Any]:
    content = read_model_json(file)
    if not isinstance(content, list):
        raise CheckpointError(f"{file}: expected a list; it holds a {type(content).__name__}. Download it again")
    return content
