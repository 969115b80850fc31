"""TOML <-> RunConfig: strict, complete, and the same after a round trip; every file in configs/ is one that works."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

import pytest

from gpt_kit.config import (
    CheckpointConfig,
    CorpusConfig,
    DataConfig,
    EvaluationConfig,
    LoggingConfig,
    ModelConfig,
    RunConfig,
    TrainingConfig,
    command_of,
    config_from_dict,
    create_model_config,
    load_any_run,
    load_run_config,
    run_config_to_toml,
)
from gpt_kit.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))


def load(tmp_path: Path, text: str, **options: str) -> RunConfig:
    (tmp_path / "run.toml").write_text(text, encoding="utf-8")
    return load_run_config(tmp_path / "run.toml", **options)


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    config = load(tmp_path, '[model]\npreset = "openai-gpt"\nn_layer = 4\n[training]\nmax_steps = 7\nlearning_rate = 1\n')
    assert config.model == create_model_config("openai-gpt", n_layer=4)
    assert config.training == TrainingConfig(max_steps=7, learning_rate=1)
    assert (config.data, config.evaluation, config.logging) == (DataConfig(), EvaluationConfig(), LoggingConfig())


def test_no_file_is_the_default_run_and_a_preset_from_the_command_line_wins(tmp_path: Path) -> None:
    assert load_run_config() == RunConfig()
    config = load(tmp_path, '[model]\npreset = "gpt2-xl"\nn_layer = 3\n', preset="openai-gpt")
    assert config.model == create_model_config("openai-gpt", n_layer=3)


def test_a_mistyped_key_says_what_was_meant(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[training\] unknown key 'learning_rat' \(did you mean 'learning_rate'\?\)") as caught:
        load(tmp_path, "[training]\nlearning_rat = 0.1\n")
    assert str(tmp_path / "run.toml") in str(caught.value)


def test_all_problems_of_a_file_are_reported_at_once(tmp_path: Path) -> None:
    """Unknown sections, unknown keys, wrong types and words outside a choice, in one message."""
    text = """
        [modl]
        n_layer = 2
        [model]
        preset = "gpt2-smol"
        n_head = "twelve"
        [training]
        optimizer = "adam"
        max_step = 3
        batch_size = 2.5
        compile = true
        [evaluation]
        time_share = true
        prompt = 3
    """
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    for said in (
        "unknown section [modl] (did you mean 'model'?)",
        "[model] preset: unknown model 'gpt2-smol' (did you mean 'gpt2-small'?)",
        "[model] n_head must be a whole number; got 'twelve'",
        "[training] optimizer must be one of auto, adamw, adamw8bit, muon (did you mean 'adamw'?); got 'adam'",
        "[training] unknown key 'max_step' (did you mean 'max_steps'?)",
        "[training] batch_size must be a whole number; got 2.5",
        "[training] compile must be one of auto, on, off",
        "[evaluation] time_share must be a number; got True",
        "[evaluation] prompt must be a text in quotes; got 3",
    ):
        assert said in str(caught.value), said


def test_values_out_of_range_are_reported_at_once_over_all_sections(tmp_path: Path) -> None:
    """Who corrects one value should not meet the next only at the next start."""
    text = "[training]\nmax_steps = 0\nbeta1 = 2\n[evaluation]\ninterval = 0\n[checkpoints]\nkeep = 0\n[model]\nn_embd = 100\n"
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    for said in ("max_steps must be at least 1; got 0", "beta1 must be at least 0 and below 1; got 2", "interval", "keep", "n_embd (100)"):
        assert said in str(caught.value), said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[model\n", "not valid TOML"),
        ("training = 3\n", r"unknown section \[training\]"),
        ("[model]\nn_embd = 100\nn_head = 3\n", "nearest: 99 or 102"),
        ("[training]\nlearning_rate = nan\n", "learning_rate must be finite; got nan"),
        ("[training]\nbeta2 = 1\n", "beta2 must be at least 0 and below 1; got 1"),
        ("[training]\nseed = 9223372036854775808\n", r"seed must be below 2\*\*63"),
        ("[data]\nval_fraction = 1.0\n", "val_fraction must be at least 0 and below 1"),
        ("[data]\nvocab_size = 256\n", "vocab_size must be at least 257"),
        ("[training]\nmax_grad_norm = -1.0\n", "max_grad_norm must be at least 0"),
        ("[data]\nval_fraction = 1.5\n", "val_fraction must be at least 0 and below 1"),
        ("[data]\nstride = -1\n", "stride must be at least 0"),
        ('[data]\nsplit = "documents"\n', "did you mean 'document'"),
        ('[logging]\ntrackers = ["tensorboard", "wand"]\n', "did you mean 'wandb'"),
        ('[logging]\ntrackers = "wandb"\n', "trackers must be a list; got 'wandb'"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load(tmp_path, text)
    assert str(tmp_path / "run.toml") in str(caught.value)


def test_a_width_alone_gets_heads_that_fit(tmp_path: Path) -> None:
    assert load(tmp_path, '[model]\npreset = "gpt2-small"\nn_embd = 64\n').model == create_model_config("gpt2", n_embd=64, n_head=1)


SECTION_KINDS = [ModelConfig, CorpusConfig, DataConfig, TrainingConfig, EvaluationConfig, CheckpointConfig, LoggingConfig]
NUMBERS = [(kind, field.name, type(field.default)) for kind in SECTION_KINDS for field in dataclasses.fields(kind)]


@pytest.mark.parametrize(("section", "name"), [(section, name) for section, name, kind in NUMBERS if kind is float])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), "1"], ids=str)
def test_no_setting_takes_a_number_that_is_none(section: type, name: str, value: object) -> None:
    """Also from Python, where nothing has looked at the types before; learning_rate=nan would only show in the first loss."""
    with pytest.raises(ConfigError, match=rf"  - {name} must be (finite|a number); got"):
        section(**{name: value})


@pytest.mark.parametrize(("section", "name"), [(section, name) for section, name, kind in NUMBERS if kind is int])
@pytest.mark.parametrize("value", [2**63, -1, 1.5], ids=str)
def test_no_setting_takes_a_whole_number_that_is_beyond_reason(section: type, name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"  - {name} must be (below 2\*\*63|at least|0|a whole number)"):
        section(**{name: value})


def test_every_problem_of_the_data_section_is_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        DataConfig(stride=-1, split_seed=-1, val_fraction=1.0)
    assert all(name in str(caught.value) for name in ("stride", "split_seed", "val_fraction"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: there is no such file"):
        load_run_config(tmp_path / "nowhere.toml")


def test_a_folder_is_no_toml_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a folder; a TOML file is expected"):
        load_run_config(tmp_path)


def different_from_default(value: object, field: dataclasses.Field, choices: dict[str, str]) -> object:
    if field.name in choices:
        return choices[field.name]
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return 'a "quoted" \\ path\n\twith ünïcode, 漢, 😀 and \x7f \x01'
    return value / 3 if isinstance(value, float) else value + 1


def test_every_setting_survives_the_round_trip_through_toml(tmp_path: Path) -> None:
    """Each field of each section away from its default, texts with everything that TOML has to escape (a prompt may hold it)."""
    choices = {
        "norm": "post", "position_embedding": "rotary", "split": "contiguous", "windows": "random", "optimizer": "muon",
        "schedule": "linear", "precision": "fp16", "compile": "off", "n_embd": 36, "n_head": 3,
        "parallel": "fsdp", "trackers": ("wandb", "tensorboard"), "on_damaged": "replace", "streaming": "off",
        "on_full_disk": "stop",
    }  # fmt: skip
    sections = {}
    for section in dataclasses.fields(RunConfig):
        default = getattr(RunConfig(), section.name)
        changes = {f.name: different_from_default(getattr(default, f.name), f, choices) for f in dataclasses.fields(default)}
        sections[section.name] = dataclasses.replace(default, **changes)
    config = RunConfig(**sections)
    assert load(tmp_path, run_config_to_toml(config)) == config
    assert load(tmp_path, run_config_to_toml(RunConfig())) == RunConfig()


def test_from_dict_leaves_the_callers_dictionary_alone() -> None:
    content = {"model": {"preset": "gpt2", "n_layer": 2}}
    config_from_dict(RunConfig, content)
    assert content == {"model": {"preset": "gpt2", "n_layer": 2}}


@pytest.mark.parametrize("section", [CorpusConfig, DataConfig, TrainingConfig, EvaluationConfig, CheckpointConfig, LoggingConfig])
def test_every_setting_is_explained(section: type) -> None:
    """The text under a field is its help on the command line; `gpt-kit COMMAND --help` would have a hole without it."""
    import inspect

    source = inspect.getsource(section).split("def __post_init__")[0]
    own = [name for name in section.__annotations__ if f"    {name}:" in source]
    assert own
    for name in own:
        after = source.split(f"    {name}:", 1)[1].split("\n", 2)[1]
        assert after.strip().startswith('"""'), name


def test_a_run_of_any_kind_is_told_by_its_sections_and_knows_its_command(tmp_path: Path) -> None:
    for section, command in (("data", "train"), ("sft", "finetune sft"), ("classify", "finetune classify")):
        (tmp_path / "run.toml").write_text(f"[{section}]\n[training]\nmax_steps = 3\n", encoding="utf-8")
        assert command_of(load_any_run(tmp_path / "run.toml")) == f"gpt-kit {command}"


@pytest.mark.skipif(not CONFIGS, reason="configs/ holds no file yet")
def test_every_shipped_config_loads() -> None:
    for path in CONFIGS:
        config = load_any_run(path)
        assert config_from_dict(type(config), tomllib.loads(run_config_to_toml(config))) == config, path.name
