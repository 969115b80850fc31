"""TOML <-> RunConfig, strictly: an unknown key or a wrong type is an error that says what was meant.

[model]
preset = "gpt2-small"       # a published shape …
n_layer = 4                 # … with changes
[training]
max_steps = 200
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from gpt_kit.config.model import PRESETS, SHORT_NAMES, create_model_config, value_problem
from gpt_kit.config.run import RunConfig, Settings
from gpt_kit.config.suggest import did_you_mean
from gpt_kit.errors import ConfigError

T = TypeVar("T")


def load_run_config(path: Path | None = None, *, preset: str | None = None) -> RunConfig:
    """The run of pre-training that a TOML file describes; `preset` (from the command line) takes the place of the file's.

    Raises: ConfigError with every problem of the file, each by section and key.
    """
    return load_config(RunConfig, path, preset=preset)


def load_config(kind: type[T], path: Path | None = None, *, preset: str | None = None) -> T:
    """The same for any kind of run: a dataclass of sections, such as those of fine-tuning."""
    if path is None:
        return config_from_dict(kind, {}, preset=preset)
    return config_from_dict(kind, read_toml(path), preset=preset, where=f"{path}: ")


def read_toml(path: Path) -> dict[str, Any]:
    """The parsed file. Raises: ConfigError where there is none, or it is damaged."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; a TOML file is expected") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML ({error})") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None


def config_from_dict(kind: type[T], content: dict[str, Any], *, preset: str | None = None, where: str = "") -> T:
    """Build the run from parsed TOML. Raises: ConfigError listing unknown sections, unknown keys and wrong types."""
    kinds: dict[str, Any] = get_type_hints(kind)
    content = {name: dict(section) if isinstance(section, dict) else section for name, section in content.items()}
    model = content.get("model")
    named = model.pop("preset", "gpt2-small") if isinstance(model, dict) else "gpt2-small"
    problems = []
    if preset is None and named not in PRESETS and named not in SHORT_NAMES:
        problems.append(f"[model] preset: unknown model {named!r}{did_you_mean(str(named), [*SHORT_NAMES, *PRESETS])}")
    for section, values in content.items():
        if section not in kinds or not isinstance(values, dict):
            problems.append(f"unknown section [{section}]{did_you_mean(section, kinds)}; expected {', '.join(kinds)}")
            continue
        hints = get_type_hints(kinds[section])
        for key, value in values.items():
            if key not in hints:
                problems.append(f"[{section}] unknown key {key!r}{did_you_mean(key, hints)}")
            elif problem := value_problem(value, hints[key]):
                problems.append(f"[{section}] {key} {problem}; got {value!r}")
    if problems:
        raise ConfigError(f"{where}this configuration cannot be used:\n  - " + "\n  - ".join(problems))
    usual, sections = kind(), dict[str, Any]()
    for name in kinds:
        try:
            settings = {key: tuple(value) if isinstance(value, list) else value for key, value in content.get(name, {}).items()}
            sections[name] = (
                create_model_config(preset or named, **settings)
                if name == "model"
                else dataclasses.replace(getattr(usual, name), **settings)
            )
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(where + "\n".join(problems))
    return kind(**sections)


def run_config_to_toml(config: Settings) -> str:
    """The run as TOML that reads back to an equal one."""
    lines = []
    for section in get_type_hints(type(config)):
        lines.append(f"[{section}]")
        values = getattr(config, section)
        lines += [f"{field.name} = {_toml_value(getattr(values, field.name))}" for field in dataclasses.fields(values)]
        lines.append("")
    return "\n".join(lines)


def _toml_value(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # otherwise a JSON string is a TOML basic string
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    return repr(value)
