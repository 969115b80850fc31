"""Hugging Face folders: config.json, generation_config.json and model.safetensors, in and out.

Reading: config.json says which tensors there must be; model.safetensors, or the shards that `model.safetensors.index.json`
lists, must hold exactly those. Accepted besides: names with or without `transformer.`, the causal-mask buffers that older
versions of transformers stored, and a second copy of a tied embedding. Half precision is read as float32.
Writing: float32, the names that `save_pretrained` gives, a tied embedding once, a missing QKV bias as zeros.

A model that scores labels has one more tensor, `score.weight`; transformers reads it as GPT2- or OpenAIGPTForSequenceClassification.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from gpt_kit.config import ModelConfig
from gpt_kit.errors import CheckpointError
from gpt_kit.files import read_tensors, write_json, write_tensors
from gpt_kit.weights.huggingface_config import model_type_for, read_config, read_labels, write_config
from gpt_kit.weights.names import Naming, from_published, published_name, published_shapes, to_published
from gpt_kit.weights.parameters import ClassificationHead, Weights, checked, parameter_shapes, read_model_json

SINGLE_FILE, SHARD_INDEX = "model.safetensors", "model.safetensors.index.json"
PREFIX = "transformer."
HEAD, SCORE = "lm_head.weight", "score.weight"
BUFFERS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)|position_ids")


def load_huggingface(folder: Path) -> Weights:
    """Read a Hugging Face folder. Raises: CheckpointError when it is not whole, not ours to compute, or contradicts itself."""
    config, model_type = read_config(folder / "config.json")
    found = _read_all_tensors(folder)
    head = _classification_head(found, config, folder)
    if model_type == "gpt_kit":
        return Weights(config, checked(found, parameter_shapes(config), folder), head)
    found = _without_prefix_and_buffers(found, folder)
    _untie(found, config, model_type, folder)
    biased = dataclasses.replace(config, qkv_bias=True)  # the published formats always have these biases
    shapes = parameter_shapes(biased)
    tensors = from_published(checked(found, published_shapes(shapes, model_type), folder), shapes, model_type)
    if config.qkv_bias or any(tensors[name].any() for name in _qkv_biases(config)):
        return Weights(biased, tensors, head)  # biases that were trained since, outside the kit, are kept
    return Weights(config, {name: tensor for name, tensor in tensors.items() if name not in _qkv_biases(config)}, head)


def save_huggingface(
    folder: Path,
    config: ModelConfig,
    tensors: Mapping[str, Tensor],
    *,
    end_of_text_id: int | None = None,
    classification: ClassificationHead | None = None,
) -> None:
    """Write the model into `folder`, which exists.

    Raises: CheckpointError when the tensors are not exactly those of the config, or `end_of_text_id` is not in the vocabulary.
    """
    if end_of_text_id is not None and not 0 <= end_of_text_id < config.vocab_size:
        raise CheckpointError(f"{folder}: end_of_text_id is {end_of_text_id}; the vocabulary has ids 0 to {config.vocab_size - 1}")
    whole = checked(tensors, parameter_shapes(config), f"{folder} (to be written)")
    model_type = model_type_for(config)
    if model_type != "gpt_kit":
        zeros = torch.zeros(3 * config.n_embd)
        whole |= {name: zeros.clone() for name in _qkv_biases(config) if not config.qkv_bias}
        published = to_published(whole, model_type)
        whole = {name if name == HEAD else PREFIX + name: tensor for name, tensor in published.items()}
    if classification is not None:
        whole |= checked({SCORE: classification.weight}, {SCORE: (len(classification.labels), config.n_embd)}, f"{folder} (to be written)")
    ids = {} if end_of_text_id is None else {"bos_token_id": end_of_text_id, "eos_token_id": end_of_text_id}
    write_json(folder / "config.json", write_config(config, end_of_text_id, classification))
    write_json(folder / "generation_config.json", ids)
    write_tensors(folder / SINGLE_FILE, whole)


def _classification_head(found: dict[str, Tensor], config: ModelConfig, folder: Path) -> ClassificationHead | None:
    """Take the weights that score labels out of `found`, where they are."""
    score = found.pop(SCORE, None)
    if score is None:
        return None
    labels, pad_token_id = read_labels(folder / "config.json", len(score))
    whole = checked({SCORE: score}, {SCORE: (len(labels), config.n_embd)}, folder)
    return ClassificationHead(labels, whole[SCORE], pad_token_id)


def _qkv_biases(config: ModelConfig) -> list[str]:
    return [f"blocks.{i}.attention.qkv.bias" for i in range(config.n_layer)]


def _read_all_tensors(folder: Path) -> dict[str, Tensor]:
    if (folder / SINGLE_FILE).is_file():
        return read_tensors(folder / SINGLE_FILE)
    if (folder / SHARD_INDEX).is_file():
        return _read_shards(folder)
    pickles = sorted(file.name for file in folder.glob("pytorch_model*.bin"))
    if pickles:
        raise CheckpointError(
            f"{folder}: the weights are in {pickles[0]}, a pickle file, which can run any code when it is opened; gpt-kit reads "
            'safetensors only. If you trust it, convert it: python -c "from transformers import AutoModelForCausalLM as M; '
            f"M.from_pretrained('{folder}').save_pretrained('{folder}-safetensors')\""
        )
    raise CheckpointError(f"{folder}: config.json is there, but neither {SINGLE_FILE} nor {SHARD_INDEX}. Download or save it again")


def _read_shards(folder: Path) -> dict[str, Tensor]:
    index = read_model_json(folder / SHARD_INDEX)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(f"{folder / SHARD_INDEX}: 'weight_map' should map tensor names to file names. Download it again")
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(places.values())):
        if Path(shard).name != shard:  # a downloaded index must not point out of its folder
            raise CheckpointError(f"{folder / SHARD_INDEX}: {shard!r} is not the name of a file in this folder")
        for name, tensor in read_tensors(folder / shard).items():
            if places.get(name) != shard:
                raise CheckpointError(f"{folder}: {shard} holds {name}, which the index places in {places.get(name)}. Download it again")
            tensors[name] = tensor
    return tensors


def _without_prefix_and_buffers(found: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    plain: dict[str, Tensor] = {}
    for long_name, tensor in found.items():
        name = long_name.removeprefix(PREFIX)
        if name in plain:
            raise CheckpointError(f"{folder}: {name} is there twice, with and without {PREFIX!r}. Save the model again")
        if not BUFFERS.fullmatch(name):
            plain[name] = tensor
    return plain


def _untie(found: dict[str, Tensor], config: ModelConfig, naming: Naming, folder: Path) -> None:
    """Drop the second copy of a tied embedding, once it is shown to be a copy."""
    if not config.tie_word_embeddings or HEAD not in found:
        return
    embedding, head = published_name("token_embedding.weight", naming), found.pop(HEAD)
    # some versions of transformers kept the head of a tied pair instead of the embedding
    if not torch.equal(found.setdefault(embedding, head).float(), head.float()):
        raise CheckpointError(
            f"{folder}: {HEAD} differs from {embedding}, though config.json ties them. "
            "If the model has a head of its own, set tie_word_embeddings to false in config.json"
        )
