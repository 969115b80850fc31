"""`gpt-kit doctor`: is this machine, this text, this model sound? A line for each check; what to do where one fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from gpt_kit.cli.arguments import parse
from gpt_kit.errors import GPTKitError

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
    from gpt_kit.doctor import FAMILIES, corpus_checks, examine, file_checks, machine_checks, model_checks, random_model
    from gpt_kit.locate import locate_model
    from gpt_kit.model import GPTModel
    from gpt_kit.tokenizers import load_tokenizer

    checks = machine_checks(Path())
    length, tokenizer = USUAL_CONTEXT, None
    if arguments.model:
        folder = locate_model(arguments.model)
        opened = file_checks("model", folder)
        checks += opened
        if all(finding.ok for finding in examine(opened)):
            model = GPTModel.from_pretrained(folder)
            checks += model_checks("model", lambda: model)
            length = model.config.max_position_embeddings
            tokenizer = load_tokenizer(folder) if arguments.source else None
    else:
        checks += [check for name, config in FAMILIES.items() for check in model_checks(name, partial(random_model, config))]
    if arguments.source:
        checks += corpus_checks(Path(arguments.source), length, tokenizer)
    failed = 0
    for finding in examine(checks):
        failed += not finding.ok
        mark = ("✓", "green") if finding.ok else ("✗", "red")
        console.print(Text.assemble(mark, f" {finding.what:<44} {finding.figure}"))
        if finding.remedy:
            console.print(Text.assemble("  → ", (finding.remedy, "yellow")))
    if failed:
        raise GPTKitError(f"{failed} of {len(checks)} checks failed; what to do stands below each (→)")
    console.print(f"all {len(checks)} checks passed")
