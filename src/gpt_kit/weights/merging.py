"""A base model and a LoRA adapter -> one model, and whether they belong together.

W becomes W + factor · B A, in float32; the base's files are only read. Where peft adapted the embedding or the head of a tied pair
alone, they are no longer one matrix: the merged model has a head of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch

from gpt_kit.errors import CheckpointError
from gpt_kit.files import MANIFEST, sha256_of_file, write_json
from gpt_kit.locate import ADAPTER_CONFIG
from gpt_kit.weights.adapter import EMBEDDING, read_adapter
from gpt_kit.weights.parameters import Weights, read_model_json

BASE_FILE = "adapter_base.json"  # beside the adapter; not a key of adapter_config.json, for peft warns of keys that it does not know
WEIGHT_FILES = ("*.safetensors", "*.npy", "*.data-*")


def merge_adapter(folder: Path, base: Weights) -> Weights:
    """The base with the adapter in `folder` added to it; other tensors are shared. Raises: CheckpointError where they do not fit."""
    adapter = read_adapter(folder, base.config)
    config, tensors = base.config, dict(base.tensors)
    for layer, copy in adapter.copies.items():
        if not torch.equal(copy, tensors.get(f"{layer}.weight", tensors["token_embedding.weight"])):
            raise CheckpointError(
                f"{folder}: brings a {layer} of its own that differs from the base's. gpt-kit adds A and B to the base only. "
                "Let peft merge it: model.merge_and_unload().save_pretrained(FOLDER)"
            )
    if adapter.unties:
        config = dataclasses.replace(config, tie_word_embeddings=False)
        tensors["head.weight"] = tensors["token_embedding.weight"]
    for layer, (a, b) in adapter.updates.items():
        update = adapter.factor(layer) * (b @ a)
        tensors[f"{layer}.weight"] = tensors[f"{layer}.weight"] + (update.T if layer == EMBEDDING else update)
    return dataclasses.replace(base, config=config, tensors=tensors)


def hash_weights(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that holds weights of the model in `folder`: what an adapter knows its base by.

    Raises: CheckpointError where there are none, or they are an adapter's, which cannot be another's base.
    """
    if (folder / ADAPTER_CONFIG).is_file():
        raise CheckpointError(f"{folder}: this is an adapter, and cannot be another's base. Merge it: gpt-kit merge {folder} FOLDER")
    files = sorted(file for pattern in WEIGHT_FILES for file in folder.glob(pattern))
    if not files:
        raise CheckpointError(f"{folder}: no weights to build on in this folder. Looked for: {', '.join(WEIGHT_FILES)}")
    return {file.name: sha256_of_file(file) for file in files}


def write_base(folder: Path, files: Mapping[str, str]) -> None:
    """Note beside an adapter what its base's files hold (`hash_weights`)."""
    write_json(folder / BASE_FILE, {"files": dict(files)})


def check_base(folder: Path, base: Path) -> None:
    """Compare `base` with what stands beside the adapter, if anything. Raises: CheckpointError naming the file that differs."""
    if not (folder / BASE_FILE).is_file():
        return
    content = read_model_json(folder / BASE_FILE)
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict):
        raise CheckpointError(f"{folder / BASE_FILE}: 'files' should map file names to SHA-256. Delete the file to do without the check")
    listed = read_model_json(base / MANIFEST) if (base / MANIFEST).is_file() else {}  # load_weights compares the files with it
    for name, expected in files.items():
        if not (base / name).is_file():
            raise CheckpointError(f"{folder}: its base {base} has no {name}. Name the right one in {ADAPTER_CONFIG}")
        found = listed.get(name) or sha256_of_file(base / name)
        if found != expected:
            raise CheckpointError(
                f"{folder}: was made for another base than {base} ({name} has SHA-256 {found[:8]}…, expected {str(expected)[:8]}…). "
                f"Name the right one in {ADAPTER_CONFIG}; if this one is meant, delete {BASE_FILE}"
            )
