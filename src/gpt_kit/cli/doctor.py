"""`gpt-kit doctor`: is this machine, this text, this model sound? A line for each check; what to do where one fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from gpt_kit.cli.arguments import parse
from gpt_kit.errors import DataError, GPTKitError

if TYPE_CHECKING:
    from gpt_kit.doctor import Finding

USUAL_CONTEXT = 1024  # tokens; of GPT-2, where no model says otherwise


@dataclass(frozen=True, kw_only=True)
class DoctorArguments:
    """Check in under a minute that this machine, a corpus and a model are sound. The exit code is 1 where something is not."""

    model: tyro.conf.Positional[str] = ""
    """A run, a checkpoint, a Hugging Face folder or hub name, or OpenAI's release files; without one, a small random model of each kind."""
    source: Annotated[str, tyro.conf.arg(name="data")] = ""
    """A prepared corpus to check too."""


def main(words: Sequence[str]) -> None:
    """Print a line for each check. Raises: GPTKitError, after the last one, where any failed."""
    arguments = parse(DoctorArguments, "doctor", words)

    from rich.text import Text

    from gpt_kit.cli.display import console
    from gpt_kit.data.shards import INFO, is_corpus
    from gpt_kit.locate import locate_model

    if arguments.source and not is_corpus(Path(arguments.source)):
        raise DataError(
            f"--data {arguments.source}: no prepared corpus ({INFO} is missing). "
            "Name a folder that gpt-kit prepare has written, or RUN/corpus"
        )
    model = locate_model(arguments.model) if arguments.model else None
    made = failed = 0
    for finding in _findings(model, arguments.source):
        made, failed = made + 1, failed + (not finding.ok)
        mark = ("✓", "green") if finding.ok else ("✗", "red")
        console.print(Text.assemble(mark, f" {finding.what:<44} {finding.figure}"))
        if finding.remedy:
            console.print(Text.assemble("  → ", (finding.remedy, "yellow")))
    if failed:
        raise GPTKitError(f"{failed} of {made} checks failed; what to do stands below each (→)")
    console.print(f"all {made} checks passed")


def _findings(model: Path | None, source: str) -> Iterator[Finding]:
    """Machine, model, text; what does not open is not looked into."""
    from gpt_kit.doctor import FAMILIES, corpus_checks, examine, file_checks, machine_checks, model_checks, random_model
    from gpt_kit.model import GPTModel
    from gpt_kit.tokenizers import load_tokenizer

    yield from examine(machine_checks(Path()))
    length, tokenizer = USUAL_CONTEXT, None
    if model is None:
        for name, config in FAMILIES.items():
            yield from examine(model_checks(name, partial(random_model, config)))
    else:
        files = []
        for finding in examine(file_checks("model", model)):
            files.append(finding.ok)
            yield finding
        if all(files):
            opened = GPTModel.from_pretrained(model)
            yield from examine(model_checks("model", lambda: opened))
            length = opened.config.max_position_embeddings
        tokenizer = partial(load_tokenizer, model)
    if source:
        yield from examine(corpus_checks(Path(source), length, tokenizer))
