"""LoRA adapters on disk: a folder that holds only what a run added to a base model, in the form of the package `peft`.

    adapter_config.json          rank, alpha, the layers, and where the base lies (absolute: peft finds no other path)
    adapter_model.safetensors    base_model.model.MODULE.lora_A.weight (rank, in) and .lora_B.weight (out, rank), MODULE as in
                                 transformers; of an embedding .lora_embedding_A (rank, V) and .lora_embedding_B (C, rank)

An embedding whose tied head learned with it is written twice, as embedding and as lm_head, for only then does peft adapt both.
What is more than A and B (DoRA, whole layers, …) is refused by name. Source: peft 0.21, tuners/lora and utils/save_and_load.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gpt_kit.config import LoraConfig, ModelConfig
from gpt_kit.errors import CheckpointError
from gpt_kit.files import read_tensors, write_json, write_tensors
from gpt_kit.locate import ADAPTER_CONFIG
from gpt_kit.weights.huggingface import PREFIX
from gpt_kit.weights.huggingface_config import model_type_for
from gpt_kit.weights.names import published_name
from gpt_kit.weights.parameters import parameter_shapes, read_model_json

ADAPTER_FILE = "adapter_model.safetensors"
PEFT_PREFIX = "base_model.model."
EMBEDDING, HEAD = "token_embedding", "head"
KEY = re.compile(r"(?P<module>.+)\.lora_(embedding_)?(?P<letter>[AB])(\.weight)?")

# What adapter_config.json may say: these values under these keys, anything under the next ones, and nothing (null, {}) under others.
READABLE: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal", "mica"),  # the others change the base as well
}
CHANGES_NOTHING = {
    "base_model_name_or_path", "revision", "task_type", "auto_mapping", "peft_version", "inference_mode", "r", "lora_alpha",
    "lora_dropout", "use_rslora", "target_modules", "exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern",
    "rank_pattern", "fan_in_fan_out", "ensure_weight_tying", "megatron_core", "qalora_group_size", "eva_config", "runtime_config",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Adapter:
    """What stands in an adapter's folder."""

    updates: dict[str, tuple[Tensor, Tensor]]
    """A (rank, in) and B (out, rank) by the kit's name of the layer (`blocks.0.attention.qkv`), float32. A token embedding's are
    (rank, V) and (C, rank): its update is the transpose of B A."""
    copies: dict[str, Tensor]
    """Weights of the base that peft stores along with an adapted embedding, by the layer's name."""
    alpha: float
    """The factor of an update is alpha / rank, or alpha / sqrt(rank) where it is rank-stabilised."""
    dropout: float
    """What it was trained with."""
    rank_stabilised: bool
    """peft's use_rslora (Kalajdzievski 2023)."""
    unties: bool
    """Whether the base's embedding and head are one matrix, and the update is of one of them alone. Of an update of both, the
    embedding's stands here."""

    def factor(self, layer: str) -> float:
        """What B A is multiplied by."""
        rank = len(self.updates[layer][0])
        return self.alpha / (math.sqrt(rank) if self.rank_stabilised else rank)


def write_adapter(folder: Path, config: ModelConfig, lora: LoraConfig, tensors: Mapping[str, Tensor], base: Path) -> None:
    """Write both files into an existing folder, for the base in the folder `base`, of the shape `config`.

    `tensors` are A and B by kit names (`blocks.0.attention.qkv.lora_A`), without what pads the vocabulary.
    """
    modules = _published_modules(config)
    tied = config.tie_word_embeddings and EMBEDDING in lora.targets
    published: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        layer, _, letter = name.rpartition(".lora_")
        key = f"lora_embedding_{letter}" if layer == EMBEDDING else f"lora_{letter}.weight"
        published[f"{modules[layer]}.{key}"] = tensor
    if tied:
        published[f"{modules[HEAD]}.lora_A.weight"] = tensors[f"{EMBEDDING}.lora_B"].T
        published[f"{modules[HEAD]}.lora_B.weight"] = tensors[f"{EMBEDDING}.lora_A"].T
    targets = {re.sub(r".*\.\d+\.", "", name.rpartition(".lora_")[0]) for name in published}  # attn.c_proj, not c_proj: there are two
    write_tensors(folder / ADAPTER_FILE, {PEFT_PREFIX + name: tensor for name, tensor in published.items()})
    write_json(
        folder / ADAPTER_CONFIG,
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": str(base.resolve()),
            "r": lora.rank,
            "lora_alpha": int(lora.alpha) if lora.alpha == int(lora.alpha) else lora.alpha,
            "lora_dropout": lora.dropout,
            "target_modules": sorted(targets),
            "fan_in_fan_out": model_type_for(config) != "gpt_kit",  # transformers' Conv1D; A and B are the same for it
            "ensure_weight_tying": tied,
            "bias": "none",
            "init_lora_weights": True,
            "inference_mode": True,
        },
    )


def read_adapter(folder: Path, config: ModelConfig) -> Adapter:
    """Read both files, of an adapter for a base of the shape `config`.

    Raises: CheckpointError for what does not fit that base, or is not plain LoRA.
    """
    settings = _read_settings(folder / ADAPTER_CONFIG)
    layers = {module: layer for layer, module in _published_modules(config).items()}
    halves: dict[str, dict[str, Tensor]] = {}
    copies: dict[str, Tensor] = {}
    for key, tensor in read_tensors(folder / ADAPTER_FILE).items():
        name = key.removeprefix(PEFT_PREFIX)
        match = KEY.fullmatch(name)
        module = match["module"] if match else name.removesuffix(".weight").removesuffix(".base_layer")
        layer = layers.get(module) or layers.get(PREFIX + module, "")
        if match and layer:
            halves.setdefault(layer, {})[match["letter"]] = tensor.float()
        elif layer in (EMBEDDING, HEAD):
            copies[layer] = tensor.float()
        else:
            raise CheckpointError(f"{folder / ADAPTER_FILE}: {_why_not(key, match is not None)}")
    updates = {layer: (pair["A"], pair["B"]) for layer, pair in halves.items() if len(pair) == 2 and pair["A"].numel()}
    shapes = parameter_shapes(config) | {"head.weight": (config.vocab_size, config.n_embd)}
    for layer in halves:
        expected = shapes[f"{layer}.weight"][:: -1 if layer == EMBEDDING else 1]
        a, b = updates.get(layer, (None, None))
        if a is None or b is None or (len(b), *a.shape[1:]) != expected or (b.shape[1:]) != (len(a),):
            found = "one of A and B is missing" if a is None or b is None else f"A is {tuple(a.shape)} and B {tuple(b.shape)}"
            raise CheckpointError(f"{folder / ADAPTER_FILE}: of {layer}, {found}; the base's weight is {shapes[f'{layer}.weight']}")
    if not updates:
        raise CheckpointError(f"{folder / ADAPTER_FILE}: holds no A and B. Save the adapter again")
    as_one = _learned_as_one(updates)
    if config.tie_word_embeddings and as_one:
        updates.pop(HEAD, None)
    return Adapter(
        updates,
        copies,
        alpha=settings["lora_alpha"],
        dropout=settings.get("lora_dropout") or 0.0,
        rank_stabilised=bool(settings.get("use_rslora")),
        unties=config.tie_word_embeddings and not as_one,
    )


def _learned_as_one(updates: Mapping[str, tuple[Tensor, Tensor]]) -> bool:
    """Whether embedding and head have the same update, as those of a tied pair that was trained as one, or neither has any."""
    if EMBEDDING not in updates or HEAD not in updates:
        return EMBEDDING not in updates and HEAD not in updates
    (a, b), (head_a, head_b) = updates[EMBEDDING], updates[HEAD]
    return a.T.equal(head_b) and b.T.equal(head_a)


def _published_modules(config: ModelConfig) -> dict[str, str]:
    """The kit's name of every layer that can be adapted -> its module in transformers; without such a class, it is the kit's own."""
    model_type = model_type_for(config)
    layers = [name.removesuffix(".weight") for name, shape in parameter_shapes(config).items() if len(shape) == 2]
    if model_type == "gpt_kit":
        return {layer: layer for layer in [*layers, HEAD]}
    modules = {layer: PREFIX + published_name(f"{layer}.weight", model_type).removesuffix(".weight") for layer in layers}
    return modules | {HEAD: "lm_head"}


def _read_settings(file: Path) -> dict[str, Any]:
    settings = read_model_json(file)
    if not isinstance(settings, dict):
        raise CheckpointError(f"{file}: holds a {type(settings).__name__}; expected an object with the key 'peft_type'")
    problems = []
    for key, value in settings.items():
        if key in READABLE and value not in READABLE[key]:
            problems.append(f"{key} is {value!r} (gpt-kit reads {', '.join(map(repr, READABLE[key]))})")
        elif key not in READABLE and key not in CHANGES_NOTHING and value:
            problems.append(f"{key} is {value!r}")
    if not isinstance(settings.get("lora_alpha"), int | float):
        problems.append(f"lora_alpha is {settings.get('lora_alpha')!r} (expected a number)")
    if problems:
        raise CheckpointError(f"{file}: more than plain LoRA, or less: {'; '.join(problems)}")
    return settings


def _why_not(key: str, is_update: bool) -> str:
    if is_update:
        return f"{key} fits no layer of the base. Adapter and base belong to different models"
    return (
        f"{key} is neither A nor B, but a whole weight (modules_to_save, or a vocabulary that grew); gpt-kit reads A and B only. "
        "Let peft merge it: model.merge_and_unload().save_pretrained(FOLDER)"
    )
