"""A model on disk <-> a ModelConfig and named tensors.

MODEL is a Hugging Face folder (every checkpoint of the kit is one), OpenAI's TensorFlow release of GPT-2, OpenAI's numpy
release of GPT-1, or a LoRA adapter, which is read with its base and merged. Names cross by one table (names.py) and strictly: a
tensor that is missing, unknown or of another shape is an error that names it. This room knows no model class; parameters.py says
which tensors a config has. No pickle is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from gpt_kit.config import ModelConfig
from gpt_kit.errors import CheckpointError
from gpt_kit.files import MANIFEST, check_manifest
from gpt_kit.locate import base_of_adapter, locate_model
from gpt_kit.weights.adapter import Adapter, read_adapter, write_adapter
from gpt_kit.weights.huggingface import load_huggingface, save_huggingface
from gpt_kit.weights.merging import check_base, hash_weights, merge_adapter, write_base
from gpt_kit.weights.openai_gpt1 import load_openai_gpt1
from gpt_kit.weights.openai_gpt2 import load_openai_gpt2
from gpt_kit.weights.parameters import ClassificationHead, Weights, parameter_shapes

__all__ = [
    "Adapter",
    "ClassificationHead",
    "Weights",
    "check_base",
    "hash_weights",
    "load_weights",
    "parameter_shapes",
    "read_adapter",
    "save_weights",
    "write_adapter",
    "write_base",
]

# The file that gives a form away, in the order of asking -> its reader.
READERS: dict[str, tuple[str, Callable[[Path], Weights]]] = {
    "config.json": ("Hugging Face", load_huggingface),
    "hparams.json": ("GPT-2 as OpenAI released it", load_openai_gpt2),
    "params_shapes.json": ("GPT-1 as OpenAI released it", load_openai_gpt1),
}


def load_weights(model: str | Path, *, verify: bool = True) -> Weights:
    """Read the model that MODEL names (a run, a checkpoint, a folder of a known form, a hub name).

    Where the folder has a manifest, the weights are compared with it first, unless the caller has just done so (`verify=False`).
    Raises: CheckpointError when there is none, or it is damaged, incomplete, or of an architecture the kit does not compute.
    """
    folder = locate_model(model)
    if verify and (folder / MANIFEST).is_file():
        check_manifest(folder, but_not="training_state")  # a flipped bit would load happily: in the weights, or as another number of heads
    if base := base_of_adapter(folder):
        check_base(folder, base)
        return merge_adapter(folder, load_weights(base))
    for file, (_, read) in READERS.items():
        if (folder / file).is_file():
            return read(folder)
    looked_for = ", ".join(f"{file} ({form})" for file, (form, _) in READERS.items())
    raise CheckpointError(f"{folder}: no model in this folder. Looked for: {looked_for}")


def save_weights(
    folder: Path,
    config: ModelConfig,
    tensors: Mapping[str, Tensor],
    *,
    end_of_text_id: int | None = None,
    classification: ClassificationHead | None = None,
) -> None:
    """Write a Hugging Face folder's config.json, generation_config.json and model.safetensors into an existing folder.

    Args:
        folder: exists; callers that must survive a kill take it from `files.atomic_folder`.
        config: what `tensors` are the parameters of.
        tensors: by kit names (`parameter_shapes`), vocab_size rows: never the padding of the vocabulary.
        end_of_text_id: the token that ends a text, or None where the tokenizer has none.
        classification: the head of a model that scores labels, or None for a language model.
    Raises: CheckpointError when names or shapes differ from the config's, or the folder does not exist.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no such folder to save into. Create it first")
    save_huggingface(folder, config, tensors, end_of_text_id=end_of_text_id, classification=classification)
