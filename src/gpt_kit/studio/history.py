"""A run's files -> its curves and what it wrote, while it runs or when it is over.

Reading is cheap enough to be repeated every two seconds, and nothing in a run is a reason to show none: damaged lines are left out.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Any

from gpt_kit.evaluation.report.curves import thinned
from gpt_kit.evaluation.report.reading import read_lines, read_text, read_toml
from gpt_kit.evaluation.report.runs import RunFacts
from gpt_kit.locate import pointed_to, step_folders
from gpt_kit.studio.folder import Place, RunsFolder, last_change

QUIET_SECONDS = 300
"""An unfinished run that has written nothing for so long is taken for stopped."""
LARGEST = 1e300
HEADING = re.compile(r"## step (\d+)(?:, (.*))?$")
PREDICTION = re.compile(r"\| `(.*?)` \| `(.*?)` \| `(.*?)` \| ([\d.]+) \| ✓? ?\|$")


@dataclass(slots=True)
class Sample:
    """What a run wrote at one evaluation."""

    step: int
    title: str
    parts: list[tuple[str, str]] = field(default_factory=list)
    """What it is (such as `asked`; often nothing) and the text."""
    predictions: list[tuple[str, str, str, float]] = field(default_factory=list)
    """Token read, token that follows, first choice, probability of the one that follows."""


def read_history(folder: RunsFolder, place: Place) -> RunFacts:
    """The run's settings and figures; nothing is hashed."""
    problems: list[str] = []
    config = read_toml(folder.checked(place.folder / "config.toml"), problems)
    facts = RunFacts(name=place.name, folder=place.folder, problems=problems)
    facts.config = {name: section for name, section in config.items() if isinstance(section, dict)}
    facts.records = read_lines(folder.checked(place.folder / "metrics.jsonl"), _record, "a record of a run", problems)
    facts.checkpoint = pointed_to(place.folder, "best") or next(iter(step_folders(place.folder)), None)
    return facts


def is_running(facts: RunFacts) -> bool:
    """Whether figures still come, as far as the files tell."""
    return facts.status.startswith("unfinished") and time.time() - last_change(facts.folder) < QUIET_SECONDS


def progress(facts: RunFacts) -> float:
    """Share of the steps that are done, 0 to 1."""
    wanted = facts.config.get("training", {}).get("max_steps")
    return min(facts.step / wanted, 1.0) if isinstance(wanted, int) and wanted > 0 else 0.0


def curve(facts: RunFacts, name: str, across: str) -> list[tuple[float, float]]:
    """(`across`, `name`) of every record that has both, thinned to a few hundred; `across` is step or tokens_seen."""
    return thinned([(record[across], record[name]) for record in facts.records if name in record])


def read_samples(folder: RunsFolder, place: Place) -> list[Sample]:
    """The sections of samples.md, oldest first. What stands inside fences is the model's, whatever it looks like."""
    samples: list[Sample] = []
    label = ""
    fenced: list[str] | None = None
    for line in read_text(folder.checked(place.folder / "samples.md"), []).splitlines():
        if fenced is not None:
            if line == "````":
                samples[-1].parts.append((label, "\n".join(fenced)))
                label, fenced = "", None
            else:
                fenced.append(line)
        elif heading := HEADING.match(line):
            samples.append(Sample(int(heading[1]), heading[2] or ""))
        elif not samples:
            continue
        elif line == "````text":
            fenced = []
        elif row := PREDICTION.match(line):
            samples[-1].predictions.append((row[1], row[2], row[3], float(row[4])))
        elif line.strip() and not line.startswith("|"):
            label = line.strip().rstrip(":")
    return samples


def _record(record: dict[str, Any]) -> dict[str, Any]:
    """Numbers only. Raises as `read_lines` wishes."""
    numbers = {name: value for name, value in record.items() if isinstance(value, int | float) and abs(value) <= LARGEST}  # not NaN
    return {**numbers, "step": numbers["step"], "tokens_seen": numbers["tokens_seen"]}
