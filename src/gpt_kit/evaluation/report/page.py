"""The report as one HTML page that needs nothing else: no script, no font, no picture from anywhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib.resources import files

from gpt_kit.evaluation.report.curves import draw_curves, drawable
from gpt_kit.evaluation.report.facts import NUMERIC, SUMMARY, details, summary
from gpt_kit.evaluation.report.html import Html, joined, number, table, tag
from gpt_kit.evaluation.report.panels import Panel
from gpt_kit.evaluation.report.published import PUBLISHED, SOURCES
from gpt_kit.evaluation.report.runs import KINDS, RunFacts
from gpt_kit.evaluation.report.scores import shown
from gpt_kit.evaluation.report.strips import disc, score_table

SUMMARY_NOTE = (
    "Val loss: the lowest, in nats. Bits per byte: the same by the bytes per token of the validation text, over all of it where that was "
    "measured; it compares tokenizers, on one text."
)
CURVES_NOTE = "Thin: training. Strong: validation. A number stands at the end of each run's curve."
CLASSIFIER_NOTE = "Validation alone: the loss in training holds the language model's too. A number stands at the end of each run's curve."
CURVES_DIFFER = " The runs differ in text or tokenizer: losses per token compare under one tokenizer, bits per byte on one text."
SCORES_NOTE = (
    "Whiskers: 95 % (1.96 standard errors); ± is one. Hollow: no run's model, so published by others or a bag of words. Dashed: guessing."
)


def report_as_html(runs: Sequence[RunFacts], panels: Sequence[Panel], problems: Sequence[str], title: str, footer: str) -> str:
    """The whole page."""
    style = files("gpt_kit.evaluation.report").joinpath("report.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html(style)),
    )
    body = tag(
        "body",
        tag("header", tag("h1", title), tag("p", footer)),
        _problems(problems),
        tag("section", tag("h2", "Runs"), _summary(runs)),
        _curves([run for run in runs if drawable(run)]),
        tag("section", tag("h2", "Scores"), tag("p", SCORES_NOTE, class_="note"), *map(score_table, panels)) if panels else "",
        *map(_run, runs),
        _published(),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _summary(runs: Sequence[RunFacts]) -> Html:
    head = [number(column, "th") if column in NUMERIC else column for column in SUMMARY]
    rows = []
    for run in runs:
        cells = {name: number(cell) if name in NUMERIC else cell for name, cell in summary(run).items()}
        rows.append([tag("td", tag("a", disc(run), " ", run.name, href=f"#run-{run.number}")), *(cells[column] for column in SUMMARY[1:])])
    return joined([table(head, rows, class_="summary"), tag("p", SUMMARY_NOTE, class_="note")])


def _curves(runs: Sequence[RunFacts]) -> Html:
    """A drawing for each kind of run, for their losses are of different things."""
    present = {run.kind.removesuffix(" (LoRA)") for run in runs}
    kinds = [kind for kind in [*reversed(KINDS.values()), "model"] if kind in present]
    figures = [_figure(kind if len(kinds) > 1 else "", [run for run in runs if run.kind.removesuffix(" (LoRA)") == kind]) for kind in kinds]
    return tag("section", tag("h2", "Curves"), *figures) if figures else Html()


def _figure(heading: str, runs: Sequence[RunFacts]) -> Html:
    legend = joined([tag("span", disc(run), " ", run.name) for run in runs], " ")
    differ = len({(run.text, run.tokenizer) for run in runs}) > 1
    note = CLASSIFIER_NOTE if runs[0].kind == "classification" else CURVES_NOTE + CURVES_DIFFER * differ
    return tag(
        "figure",
        tag("h3", heading.capitalize()) if heading else "",
        tag("p", legend, class_="legend"),
        draw_curves(runs),
        tag("figcaption", note),
    )


def _run(run: RunFacts) -> Html:
    """A run's own section."""
    facts = [
        part
        for name, value in details(run).items()
        for part in (tag("dt", name), tag("dd", tag("code", value) if len(value) == 64 else value))
    ]
    commands = dict.fromkeys(filter(None, [run.command, *(score.command for score in run.scores)]))
    last = {name: value for record in run.records for name, value in record.items()}
    figures = table(
        ("figure", "last value"), ((name, number(tag("data", f"{value:,.6g}", value=repr(value)))) for name, value in last.items())
    )
    return tag(
        "section",
        tag("h2", disc(run), " ", run.name, " ", tag("small", " · ".join(filter(None, (run.kind, run.status))))),
        _problems(run.problems),
        tag("dl", *facts),
        joined([tag("h3", "Repeat it"), tag("pre", "\n".join(commands))]) if commands else "",
        joined([tag("h3", "What it writes"), tag("pre", run.sample)]) if run.sample else "",
        _picture(run),
        tag("details", tag("summary", "last figures"), figures) if last else "",
        tag("details", tag("summary", "all settings (config.toml)"), tag("pre", run.config_text)) if run.config_text else "",
        id=f"run-{run.number}",
        class_="run",
    )


def _picture(run: RunFacts) -> Html:
    """The confusion matrix of a classifier, inside the page like everything else."""
    if not run.picture:
        return Html()
    source = f"data:image/png;base64,{base64.b64encode(run.picture).decode()}"
    return joined([tag("h3", "What it takes for what"), tag("img", src=source, alt=f"confusion matrix of {run.name}")])


def _problems(problems: Sequence[str]) -> Html:
    return tag("aside", tag("strong", "Left out"), tag("ul", *(tag("li", problem) for problem in problems))) if problems else Html()


def _published() -> Html:
    rows = [
        (
            known.model,
            known.task,
            known.metric,
            number(shown(known.metric, known.value)),
            known.differs,
            f"{known.source}, {SOURCES[known.source]}",
        )
        for known in PUBLISHED
    ]
    head = ("model", "task", "metric", number("value", "th"), "how", "source")
    return tag("section", tag("details", tag("summary", "All published figures that scores are set beside"), table(head, rows)))
