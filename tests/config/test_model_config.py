"""The published shapes by name, with changes; and shapes that cannot be built, refused with everything that is wrong."""

from __future__ import annotations

import dataclasses

import pytest

from gpt_kit.config import PRESETS, SHORT_NAMES, ModelConfig, create_model_config
from gpt_kit.errors import ConfigError

SHAPES = {  # vocab_size, max_position_embeddings, n_embd, n_layer, n_head, norm
    "gpt2-small (124M)": (50257, 1024, 768, 12, 12, "pre"),
    "gpt2-medium (355M)": (50257, 1024, 1024, 24, 16, "pre"),
    "gpt2-large (774M)": (50257, 1024, 1280, 36, 20, "pre"),
    "gpt2-xl (1558M)": (50257, 1024, 1600, 48, 25, "pre"),
    "gpt1 (117M)": (40478, 512, 768, 12, 12, "post"),
}
SHORT = {
    "gpt2": "gpt2-small (124M)",
    "gpt2-small": "gpt2-small (124M)",
    "gpt2-medium": "gpt2-medium (355M)",
    "gpt2-large": "gpt2-large (774M)",
    "gpt2-xl": "gpt2-xl (1558M)",
    "openai-gpt": "gpt1 (117M)",
}


@pytest.mark.parametrize(("name", "expected"), SHAPES.items())
def test_a_published_shape_is_the_published_one(name: str, expected: tuple) -> None:
    config = create_model_config(name)
    keys = ("vocab_size", "max_position_embeddings", "n_embd", "n_layer", "n_head", "norm")
    assert tuple(getattr(config, key) for key in keys) == expected
    assert (config.position_embedding, config.qkv_bias, config.tie_word_embeddings) == ("learned", True, True)
    assert (config.inner_width, config.head_width) == (4 * config.n_embd, 64)


def test_every_preset_is_checked_here_and_every_short_name_stands_for_its_long_one() -> None:
    assert PRESETS.keys() == SHAPES.keys()
    assert SHORT.items() <= SHORT_NAMES.items()
    for short, long in SHORT_NAMES.items():
        assert create_model_config(short) == create_model_config(long)


def test_changes_by_keyword_leave_the_rest() -> None:
    changed = create_model_config("gpt2-xl", n_layer=2, norm="post")
    assert dataclasses.asdict(changed) == {**dataclasses.asdict(create_model_config("gpt2-xl")), "n_layer": 2, "norm": "post"}


def test_configs_are_frozen_facts() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        create_model_config("gpt2").n_layer = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        ModelConfig(50257)  # type: ignore[misc] # positions would be guessed at


@pytest.mark.parametrize(("name", "meant"), [("gpt2-smal", "gpt2-small"), ("gtp2", "gpt2"), ("openai-gtp", "openai-gpt")])
def test_an_unknown_model_says_what_was_meant(name: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"unknown model '{name}'.*did you mean '{meant}'"):
        create_model_config(name)


def test_an_unknown_key_says_what_was_meant() -> None:
    with pytest.raises(ConfigError, match=r"unknown model setting 'n_layers'.*did you mean 'n_layer'"):
        create_model_config("gpt2", n_layers=3)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        ModelConfig(n_layer=0, vocab_size=-1, attention_dropout=1.0, n_inner=-4, layer_norm_epsilon=0.0)
    lines = str(caught.value).splitlines()
    assert lines[0] == "this model cannot be built:"
    for name in ("n_layer", "vocab_size", "attention_dropout", "n_inner", "layer_norm_epsilon"):
        assert sum(line.startswith(f"  - {name} must be") for line in lines) == 1, name
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_embd": 100, "n_head": 3}, r"n_embd \(100\) must be a multiple of n_head \(3\); nearest: 99 or 102"),
        ({"n_embd": 2, "n_head": 3}, r"nearest: 3"),
        ({"n_embd": 9, "n_head": 3, "position_embedding": "rotary"}, "even head width; n_embd / n_head is 3"),
        ({"norm": "sandwich"}, "norm must be one of pre, post; got 'sandwich'"),
        ({"n_layer": 1.5}, "n_layer must be a whole number; got 1.5"),
        ({"n_layer": True}, "n_layer must be a whole number; got True"),
        ({"qkv_bias": 1}, "qkv_bias must be true or false; got 1"),
        ({"residual_dropout": "0.1"}, "residual_dropout must be a number"),
        ({"residual_dropout": float("nan")}, "residual_dropout must be finite; got nan"),
        ({"layer_norm_epsilon": float("inf")}, "layer_norm_epsilon must be finite; got inf"),
        ({"initializer_range": float("nan")}, "initializer_range must be finite; got nan"),
        ({"initializer_range": 10**400}, "initializer_range must be finite"),
        ({"n_layer": 2**63}, r"n_layer must be below 2\*\*63; got 9223372036854775808"),
        ({"n_embd": 9, "n_head": 3, "position_embedding": "sinusoidal"}, "sinusoidal positions need an even n_embd; got 9"),
        ({"vocab_multiple": 0}, "vocab_multiple must be at least 1"),
    ],
    ids=str,
)
def test_a_shape_that_cannot_be_built_is_explained(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        create_model_config("gpt2", **changes)


def test_sinusoids_need_an_even_width_but_rotary_positions_an_even_head_width() -> None:
    sizes = {"n_embd": 6, "n_head": 2}  # D = 3
    assert create_model_config("gpt2", **sizes, position_embedding="sinusoidal").head_width == 3
    with pytest.raises(ConfigError, match="rotary positions need an even head width; n_embd / n_head is 3"):
        create_model_config("gpt2", **sizes, position_embedding="rotary")


@pytest.mark.parametrize(
    ("name", "changes", "n_head"),
    [
        ("gpt2-small", {"n_embd": 64}, 1),
        ("gpt2-small", {"n_embd": 192}, 12),  # the preset's heads divide it, so they stay
        ("gpt1", {"n_embd": 320}, 5),
        ("gpt2-xl", {"n_embd": 768}, 12),
        ("gpt2", {"n_embd": 64, "n_head": 4}, 4),
    ],
)
def test_a_width_that_the_presets_heads_do_not_divide_gets_heads_of_64_channels(name: str, changes: dict[str, int], n_head: int) -> None:
    assert create_model_config(name, n_layer=2, **changes).n_head == n_head


@pytest.mark.parametrize("changes", [{"n_embd": 100}, {"n_embd": 64, "n_head": 12}, {"n_embd": -64}, {"n_embd": 64.0}], ids=str)
def test_no_other_width_gets_other_heads(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="n_embd") as caught:
        create_model_config("gpt2", **changes)
    assert "n_head must" not in str(caught.value)


@pytest.mark.parametrize(("vocab_size", "multiple", "padded"), [(50257, 64, 50304), (61, 64, 64), (64, 64, 64), (65, 64, 128), (7, 1, 7)])
def test_padding_rounds_the_vocabulary_up(vocab_size: int, multiple: int, padded: int) -> None:
    assert create_model_config("gpt2", vocab_size=vocab_size, vocab_multiple=multiple).padded_vocab_size == padded
