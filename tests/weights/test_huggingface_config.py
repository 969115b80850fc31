"""config.json: the variants we cannot compute are refused by name, the ones that mean the same are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config, OpenAIGPTConfig

from gpt_kit.config import ModelConfig, create_model_config
from gpt_kit.errors import CheckpointError
from gpt_kit.weights.huggingface_config import read_config, write_config


@pytest.fixture
def config_file(tmp_path: Path) -> Any:
    def write(content: Any) -> Path:
        file = tmp_path / "config.json"
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return file

    return write


@pytest.mark.parametrize(
    ("model_type", "key", "value"),
    [
        ("gpt2", "activation_function", "gelu"),
        ("gpt2", "activation_function", "relu"),
        ("gpt2", "scale_attn_weights", False),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True),
        ("gpt2", "add_cross_attention", True),
        ("openai-gpt", "afn", "silu"),
    ],
)
def test_a_variant_that_we_do_not_compute_is_refused(model_type: str, key: str, value: Any, config_file: Any) -> None:
    """GPT-2's "gelu" is the exact form: it would load and be wrong. GPT-1's "gelu" is the tanh form, and is right."""
    with pytest.raises(CheckpointError, match=f"{key} is {value!r}"):
        read_config(config_file({"model_type": model_type, key: value}))


@pytest.mark.parametrize("key", ["reorder_and_upcast_attn", "use_cache", "task_specific_params", "summary_type"])
def test_keys_that_do_not_change_the_function_are_harmless(key: str, config_file: Any) -> None:
    assert read_config(config_file({"model_type": "gpt2", key: True}))[0] == create_model_config("gpt2")


@pytest.mark.parametrize("model_type", ["llama", None, ["gpt2"]])
def test_another_architecture_is_refused_with_the_list_of_ours(model_type: Any, config_file: Any) -> None:
    with pytest.raises(CheckpointError, match="'gpt2', 'openai-gpt', 'gpt_kit'"):
        read_config(config_file({"model_type": model_type}))


@pytest.mark.parametrize(("name", "theirs"), [("gpt2", GPT2Config), ("openai-gpt", OpenAIGPTConfig)])
def test_absent_keys_mean_what_they_mean_in_transformers(name: str, theirs: Any, config_file: Any) -> None:
    config, _ = read_config(config_file({"model_type": name}))
    default = theirs()
    assert (config.vocab_size, config.max_position_embeddings) == (default.vocab_size, default.n_positions)
    assert (config.n_embd, config.n_layer, config.n_head) == (default.n_embd, default.n_layer, default.n_head)
    assert (config.embedding_dropout, config.layer_norm_epsilon) == (default.embd_pdrop, default.layer_norm_epsilon)
    assert (config.norm == "post") == (name == "openai-gpt")


@pytest.mark.parametrize(("name", "theirs"), [("gpt2", GPT2Config), ("openai-gpt", OpenAIGPTConfig)])
def test_transformers_understands_every_key_that_we_write(name: str, theirs: Any) -> None:
    """A misspelt key would be carried along silently; only these few are not of transformers' own class."""
    written = write_config(create_model_config(name), end_of_text_id=7)
    known = theirs(architectures=["X"], dtype="float32").to_dict()
    assert written.keys() - known.keys() == {"gpt_kit", "n_ctx", "torch_dtype"}


def test_the_other_spellings_of_transformers_are_read(config_file: Any) -> None:
    content = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 5, "n_ctx": 11}
    config, _ = read_config(config_file({"model_type": "gpt2", **content}))
    assert (config.n_embd, config.n_head, config.n_layer, config.max_position_embeddings) == (24, 3, 5, 11)


def test_a_standard_key_wins_over_the_kit_s_own(config_file: Any) -> None:
    content = write_config(ModelConfig(n_embd=24, n_head=3, n_inner=40, attention_dropout=0.3, vocab_multiple=64), None)
    config, _ = read_config(config_file(content | {"attn_pdrop": 0.0, "n_inner": None, "n_head": 4}))
    assert (config.attention_dropout, config.inner_width, config.n_head, config.vocab_multiple) == (0.0, 96, 4, 64)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ([1, 2], "holds a list"),
        ({"model_type": "gpt2", "n_embd": 25}, r"n_embd \(25\) must be a multiple of n_head"),
        ({"model_type": "gpt2", "n_layer": "two"}, "n_layer must be a whole number"),
        ({"model_type": "gpt2", "gpt_kit": {"n_hed": 3}}, "unknown model setting 'n_hed'"),
        ({"model_type": "gpt_kit"}, "the key 'gpt_kit' should hold the settings"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(content: Any, message: str, config_file: Any) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        read_config(config_file(content))
    assert "config.json" in str(caught.value)
