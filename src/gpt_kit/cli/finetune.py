"""`gpt-kit finetune`: a model that has learned to write learns to answer (sft) or to judge (classify)."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from gpt_kit.cli.arguments import begun_run, parse, peek, with_short_micro_batch
from gpt_kit.config import did_you_mean, load_config
from gpt_kit.config.finetune import AS_MANY_AS_EPOCHS_SAY
from gpt_kit.errors import ConfigError

KINDS = {
    "sft": "conversations or instructions -> a model that answers: gpt-kit finetune sft --model runs/a --data chats.jsonl --out runs/chat",
    "classify": "labelled texts -> a classifier: gpt-kit finetune classify --model runs/a --data train.tsv --val dev.tsv --out runs/labels",
}
T = TypeVar("T")


def main(words: Sequence[str]) -> None:
    """Hand over to the kind that was asked for."""
    if not words or words[0] in ("-h", "--help"):
        print("usage: gpt-kit finetune KIND …\n\n" + "\n".join(f"  {kind:<9} {text}" for kind, text in KINDS.items()))
        return
    kind, *rest = words
    if kind not in KINDS:
        raise ConfigError(f"unknown kind of fine-tuning {kind!r}{did_you_mean(kind, KINDS)}. Kinds: {', '.join(KINDS)}")
    from importlib import import_module

    import_module(f"gpt_kit.cli.finetune_{kind}").main(rest)


def parse_run(arguments: type[T], run: type[Any], kind: str, words: Sequence[str]) -> T:
    """The command line over the TOML file (when resuming: the run's own) over the usual settings of this kind of run.

    `run` is the dataclass of the file's sections, of which the command line has all but [model]: the shape comes with the base.
    """
    words = with_short_micro_batch(words)
    config, begun = peek(words, "--config"), begun_run(words, "--data", f"--{kind}.data")
    base = load_config(run, begun or (Path(config) if config else None))
    sections = {name: getattr(base, name) for name in get_type_hints(run) if name != "model"}
    if begun is not None and peek(words, f"--{kind}.epochs") is not None:  # so many epochs, not the steps of those before
        sections["training"] = dataclasses.replace(sections["training"], max_steps=AS_MANY_AS_EPOCHS_SAY)
    return parse(arguments, f"finetune {kind}", words, arguments(**sections))


def with_short_names(section: T, **short: str) -> T:
    """A section with the settings that the command line has a short name for, where they are given."""
    return dataclasses.replace(section, **{name: value for name, value in short.items() if value})  # type: ignore[type-var]


def run_folder(out: Path | None, base: str, kind: str) -> Path:
    """`--out`, or a free folder after the base's name. Raises: ConfigError for several processes without a name."""
    from gpt_kit.cli.runs import free_folder

    if out is not None:
        return out
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("several processes need one name for their run: add --out runs/NAME")
    return free_folder(Path("runs") / f"{Path(base).name or 'model'}-{kind}")


def findable(section: T) -> T:
    """A section whose base, data and val are full paths, to be found from any folder."""
    paths = {name: getattr(section, name) for name in ("base", "data", "val") if getattr(section, name)}
    return with_short_names(section, **{name: str(Path(path).resolve()) for name, path in paths.items() if Path(path).exists()})


def checked_length(kind: str, max_length: int, context: int) -> int:
    """The most tokens of an example. Raises: ConfigError for more than the model's context."""
    if max_length > context:
        raise ConfigError(f"{kind}.max_length is {max_length}, but this model's context is {context}. Lower it, or leave it out")
    return max_length or context


def steps_of(epochs: float, examples: int, training: Any) -> Any:
    """The training section with as many steps as the epochs need, unless it asks for fewer."""
    steps = max(1, -(-int(epochs * examples) // training.batch_size))
    return dataclasses.replace(training, max_steps=min(steps, training.max_steps))
