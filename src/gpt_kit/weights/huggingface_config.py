"""config.json <-> ModelConfig.

`model_type` "gpt2" and "openai-gpt" are the keys of transformers' GPT2Config and OpenAIGPTConfig. What neither can say
(sinusoidal or rotary positions, scaled embeddings, GPT-1 with another inner width) has the `model_type` "gpt_kit".
The exact ModelConfig also stands in config.json under the key "gpt_kit", which transformers carries along unread. A standard
key wins over it: whoever edits the file, or resizes the vocabulary in transformers, means the standard key.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from gpt_kit.config import ModelConfig, create_model_config
from gpt_kit.errors import CheckpointError, ConfigError
from gpt_kit.weights.parameters import ClassificationHead, read_model_json

ModelType = Literal["gpt2", "openai-gpt", "gpt_kit"]
OWN_KEY = "gpt_kit"

# kit field -> the key that is written, and the other spellings that transformers accepts
STANDARD_KEYS = {
    "vocab_size": ("vocab_size",),
    "max_position_embeddings": ("n_positions", "max_position_embeddings", "n_ctx"),
    "n_embd": ("n_embd", "hidden_size"),
    "n_layer": ("n_layer", "num_hidden_layers"),
    "n_head": ("n_head", "num_attention_heads"),
    "tie_word_embeddings": ("tie_word_embeddings",),
    "embedding_dropout": ("embd_pdrop",),
    "attention_dropout": ("attn_pdrop",),
    "residual_dropout": ("resid_pdrop",),
    "layer_norm_epsilon": ("layer_norm_epsilon",),
    "initializer_range": ("initializer_range",),
}
ARCHITECTURES = {"gpt2": "GPT2LMHeadModel", "openai-gpt": "OpenAIGPTLMHeadModel", "gpt_kit": "GPTModel"}
CLASSIFIERS = {"gpt2": "GPT2ForSequenceClassification", "openai-gpt": "OpenAIGPTForSequenceClassification", "gpt_kit": "GPTClassifier"}

# key -> (values we compute exactly, the value of a file that lacks the key). GPT-1's "gelu" is the tanh form too.
REQUIRED_VALUES: dict[str, dict[str, tuple[tuple[Any, ...], Any]]] = {
    "gpt2": {
        "activation_function": (("gelu_new", "gelu_pytorch_tanh"), "gelu_new"),
        "scale_attn_weights": ((True,), True),
        "scale_attn_by_inverse_layer_idx": ((False,), False),
        "add_cross_attention": ((False,), False),
    },
    "openai-gpt": {"afn": (("gelu",), "gelu")},
}


def model_type_for(config: ModelConfig) -> ModelType:
    """The class of transformers that computes what this config says, or "gpt_kit" where there is none."""
    if config.position_embedding != "learned" or config.scale_embeddings:
        return "gpt_kit"
    if config.norm == "pre":
        return "gpt2"
    return "openai-gpt" if config.inner_width == 4 * config.n_embd else "gpt_kit"


def write_config(config: ModelConfig, end_of_text_id: int | None, classification: ClassificationHead | None = None) -> dict[str, Any]:
    """The content of config.json."""
    model_type = model_type_for(config)
    content: dict[str, Any] = {"architectures": [ARCHITECTURES[model_type]], "model_type": model_type}
    if model_type != "gpt_kit":
        content |= {keys[0]: getattr(config, field) for field, keys in STANDARD_KEYS.items()}
        content["n_ctx"] = config.max_position_embeddings  # the older name, which the llama.cpp converter still asks for
        content |= {key: default for key, (_, default) in REQUIRED_VALUES[model_type].items()}
    if model_type == "gpt2":
        content["n_inner"] = config.n_inner or None
    # null is written out: GPT2Config would take 50256 for an absent key, whatever the vocabulary
    content |= {"bos_token_id": end_of_text_id, "eos_token_id": end_of_text_id, "pad_token_id": None}
    content |= {"dtype": "float32", "torch_dtype": "float32"}  # the second is its name in transformers before 4.56
    if classification is not None:
        names = dict(enumerate(classification.labels))
        content |= {"architectures": [CLASSIFIERS[model_type]], "problem_type": "single_label_classification"}
        content |= {"id2label": {str(number): name for number, name in names.items()}}
        content |= {"label2id": {name: number for number, name in names.items()}, "pad_token_id": classification.pad_token_id}
    return content | {OWN_KEY: dataclasses.asdict(config)}


def read_labels(file: Path, num_labels: int) -> tuple[tuple[str, ...], int | None]:
    """The names of a classifier's labels, and its padding token.

    Raises: CheckpointError when the names are not those of `num_labels` labels, or the model gives a number instead of a label.
    """
    content = read_model_json(file)
    if num_labels < 2:
        raise CheckpointError(
            f"{file}: the model gives one number per text, which is regression; gpt-kit reads classifiers of 2 labels or more"
        )
    names = content.get("id2label", {str(number): f"LABEL_{number}" for number in range(num_labels)})  # transformers leaves these out
    labels = [str(names[key]) for key in map(str, range(num_labels)) if key in names] if isinstance(names, dict) else []
    if not len(labels) == len(names) == num_labels:
        raise CheckpointError(f"{file}: id2label is {names!r}, but score.weight has {num_labels} rows. Download or save the model again")
    pad = content.get("pad_token_id")
    return tuple(labels), pad if isinstance(pad, int) else None


def read_config(file: Path) -> tuple[ModelConfig, ModelType]:
    """The ModelConfig that config.json describes, and its model type.

    Raises: CheckpointError when the file is damaged, is of another architecture, or asks for what the kit does not compute.
    """
    content = read_model_json(file)
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: holds a {type(content).__name__}; expected an object with the key 'model_type'")
    model_type, own = content.get("model_type"), content.get(OWN_KEY, {})
    if model_type not in tuple(ARCHITECTURES):  # a tuple: what stands in the file may be unhashable
        raise CheckpointError(f"{file}: model_type is {model_type!r}; gpt-kit reads {', '.join(map(repr, ARCHITECTURES))}")
    if not isinstance(own, dict) or (model_type == "gpt_kit" and not own):
        raise CheckpointError(f"{file}: the key {OWN_KEY!r} should hold the settings of the model; got {own!r}. Save the model again")
    _refuse_what_we_cannot_compute(content, model_type, file)
    standard = {} if model_type == "gpt_kit" else _standard_settings(content, model_type)
    try:
        return create_model_config("openai-gpt" if model_type == "openai-gpt" else "gpt2", **{**own, **standard}), model_type
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from None


def _standard_settings(content: Mapping[str, Any], model_type: str) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "norm": "pre" if model_type == "gpt2" else "post",
        "position_embedding": "learned",
        "scale_embeddings": False,
        "n_head": 12,  # what transformers takes where a file does not say
    }
    for field, keys in STANDARD_KEYS.items():
        present = [key for key in keys if key in content]
        if present:
            settings[field] = content[present[0]]
    if model_type == "gpt2" and "n_inner" in content:
        settings["n_inner"] = content["n_inner"] or 0
    return settings


def _refuse_what_we_cannot_compute(content: Mapping[str, Any], model_type: str, file: Path) -> None:
    problems = []
    for key, (allowed, default) in REQUIRED_VALUES.get(model_type, {}).items():
        value = content.get(key, default)
        if value not in allowed:
            problems.append(f"{key} is {value!r} (gpt-kit computes {' or '.join(map(repr, allowed))})")
    if problems:
        raise CheckpointError(f"{file}: this variant of {model_type} cannot be represented: {'; '.join(problems)}")
