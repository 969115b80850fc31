"""Scores of several models -> panels: those that may stand on one scale.

A panel is one figure (task, metric, number of examples shown first) on one text, and what others published of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gpt_kit.evaluation.report.published import Published, published_beside
from gpt_kit.evaluation.report.runs import RunFacts
from gpt_kit.evaluation.report.scores import BESIDE, Score

CHANCE = {"arc_easy": 0.25, "arc_challenge": 0.25, "hellaswag": 0.25, "sst2": 0.5}  # one of four answers, one of two classes


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure of one or more models."""

    scores: list[tuple[RunFacts, Score]]
    published: list[Published]

    @property
    def metric(self) -> str:
        """What was measured."""
        return self.scores[0][1].metric

    @property
    def title(self) -> str:
        """Such as `hellaswag, acc_norm, 10-shot (hellaswag.jsonl)`."""
        score = self.scores[0][1]
        shots = f", {score.num_fewshot}-shot" if score.num_fewshot else ""
        what = score.metric if score.metric == score.task else f"{score.key[0]}, {score.metric}"
        return f"{what}{shots}" + (f" ({Path(score.data).name})" if score.data else "")

    @property
    def chance(self) -> float | None:
        """The accuracy of guessing, where that is known."""
        return CHANCE.get(self.scores[0][1].key[0]) if self.metric.startswith("acc") else None

    @property
    def note(self) -> str:
        """What keeps its figures from being compared; empty where nothing does."""
        per_token = ("loss" in self.metric or "perplexity" in self.metric) and not any(unit in self.metric for unit in ("byte", "word"))
        if per_token and len({run.tokenizer for run, _ in self.scores}) > 1:
            return "Per token, and these models have different tokenizers: compare them in bits per byte."
        return ""

    def name(self, run: RunFacts, score: Score) -> str:
        """What a row is called: the run, and what of it where that is not the run's own model."""
        if score.task in BESIDE:
            return f"{run.name}: {score.task.removeprefix('classify ').strip('()')}"
        several = run.kind == "scores" and len({found.model for found in run.scores}) > 1
        return f"{run.name}: {score.model}" if several else run.name

    def remark(self, run: RunFacts, score: Score) -> str:
        """What a reader of the score must know: settings that others in the panel have not, and weights that are not the run's best."""
        told = [json.loads(found.settings) for _, found in self.scores]
        differing = {name for settings in told for name in settings if any(other.get(name) != settings[name] for other in told)}
        remarks = [f"{name} {value}" for name, value in json.loads(score.settings).items() if name in differing]
        if run.manifest and score.model_sha256 and score.model_sha256 not in run.manifest.values():
            remarks.append(f"by other weights than those of {run.checkpoint and run.checkpoint.name}")
        return ", ".join(remarks)


def panels_of(runs: Iterable[RunFacts]) -> list[Panel]:
    """The scores of all runs, in the order in which their figures first occur."""
    panels: dict[tuple[str, str, int, str], Panel] = {}
    for run in runs:
        for score in run.scores:
            panels.setdefault(score.key, Panel([], published_beside(score.key[0], score.metric, score.data))).scores.append((run, score))
    return list(panels.values())
