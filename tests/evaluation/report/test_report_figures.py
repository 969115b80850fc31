"""The figures of a report are those in the runs' files, in words and in drawings."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from report_runs import MakeRun, Page, losses, score, weights_hash, write_lines

from gpt_kit.evaluation.report import published_beside, read_run, write_report
from gpt_kit.evaluation.report.curves import MOST_POINTS, draw_curves, thinned
from gpt_kit.evaluation.report.facts import summary


def report(tmp_path: Path, *runs: Path) -> tuple[Page, str]:
    """The page and the Markdown of a report about them."""
    written = write_report(runs, tmp_path / "report")
    return Page(written.html), written.markdown.read_text(encoding="utf-8")


def test_scores_and_last_figures_stand_in_the_page_to_the_last_digit(tmp_path: Path, make_run: MakeRun) -> None:
    values = [0.27643895638319062, 0.1 + 0.2, 23.456789012345]
    scores = [score(value=value, task=f"task{i}", metric="bits_per_byte") for i, value in enumerate(values)]
    page, markdown = report(tmp_path, make_run(scores=scores))
    last = {name: value for record in losses(8) for name, value in record.items()}
    assert set(values) | {float(value) for value in last.values()} <= set(page.data)
    assert all(f"{value:.4f} ± 0.0045" in markdown for value in values)


def test_a_share_is_shown_in_percent_with_its_standard_error_and_count(tmp_path: Path, make_run: MakeRun) -> None:
    page, markdown = report(tmp_path, make_run(scores=[score(value=0.3114, stderr=0.00462)]))
    assert "31.14 ± 0.46 % 10,042 questions" in page.text and "| 31.14 ± 0.46 % | 10,042 questions |" in markdown


def test_hashes_are_those_of_the_files(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run()
    page, markdown = report(tmp_path, run)
    for digest in (weights_hash(run), "c" * 64):
        assert digest in page.text and digest in markdown


def test_the_validation_curve_is_drawn_at_its_values(tmp_path: Path, make_run: MakeRun) -> None:
    """Every dot's place is one linear function of (tokens, loss); two swapped or shifted dots would not lie on it."""
    run = make_run()
    page, _ = report(tmp_path, run)
    dots = [found for found in page.all("use") if "var(--run-0)" in found.get("style", "")]
    places = np.array([[float(dot["x"]), float(dot["y"])] for dot in dots])
    values = np.array([[record["tokens_seen"], record["val/loss"]] for record in losses(8) if "val/loss" in record])
    assert len(places) == len(values) == 4
    for axis in (0, 1):
        slope, start = np.polyfit(values[:, axis], places[:, axis], 1)
        assert np.abs(slope * values[:, axis] + start - places[:, axis]).max() < 1e-3
        assert (slope > 0) == (axis == 0)  # losses grow upwards, SVG's y downwards


def test_dots_and_whiskers_stand_at_value_and_95_percent(tmp_path: Path, make_run: MakeRun) -> None:
    scores = [[score(task="x", value=value, stderr=stderr)] for value, stderr in ((0.2, 0.01), (0.35, 0.02), (0.8, 0.005))]
    page, _ = report(tmp_path, *(make_run(name, scores=own) for name, own in zip("abc", scores, strict=True)))
    dots = [float(found["cx"].rstrip("%")) for found in page.all("circle")]
    slope, start = np.polyfit([0.2, 0.35, 0.8], dots, 1)
    assert np.abs(slope * np.array([0.2, 0.35, 0.8]) + start - dots).max() < 0.01
    assert min(dots) > 0 and max(dots) < 100
    bars = [found for found in page.all("line") if found.get("stroke") and found["y1"] == found["y2"]]
    for bar, (own,) in zip(bars, scores, strict=True):
        ends = [(float(bar[x].rstrip("%")) - start) / slope for x in ("x1", "x2")]
        assert ends == pytest.approx([own["value"] - 1.96 * own["stderr"], own["value"] + 1.96 * own["stderr"]], abs=1e-3)


def test_published_figures_stand_beside_ours_with_source_and_difference(tmp_path: Path, make_run: MakeRun) -> None:
    page, markdown = report(tmp_path, make_run(scores=[score(task="arc_easy"), score(task="nobody's")]))
    assert "GPT-2 124M 41.20 ± 1.01 % 2,376 10-shot, lowest mean loss per token (nanochat)" in page.text
    assert "DataComp-LM" in markdown
    assert len([found for found in page.all("circle") if found["fill"] == "var(--paper)"]) == 2  # hollow, and none beside the other task
    (gpt1,) = published_beside("sst2", "accuracy")
    assert gpt1.stderr == pytest.approx(math.sqrt(0.913 * 0.087 / 1820))


def test_what_differs_in_text_or_shots_does_not_share_a_scale(tmp_path: Path, make_run: MakeRun) -> None:
    scores = [score(), score(num_fewshot=5), score(data_sha256="e" * 64, data="other.jsonl")]
    page, _ = report(tmp_path, make_run("a", scores=scores), make_run("b", scores=[score(value=0.3)]))
    assert len(page.all("table", class_="scores")) == 3
    assert "5-shot" in page.text and "other.jsonl" in page.text


def test_the_newer_of_two_equal_evaluations_counts(make_run: MakeRun) -> None:
    facts = read_run(make_run(scores=[score(value=0.1), score(value=0.2)]), "a")
    assert facts is not None and [found.value for found in facts.scores] == [0.2]


def test_settings_that_differ_are_said_and_keep_scores_apart(tmp_path: Path, make_run: MakeRun) -> None:
    """Plain and strided perplexity of one run are two scores; what both have in common is not repeated."""
    scores = [
        score(task="perplexity", metric="bits_per_byte", value=float(stride), settings={"stride": stride, "limit": 0})
        for stride in (64, 16, 64)
    ]
    _, markdown = report(tmp_path, make_run(scores=scores))
    rows = [line.split(" | ")[2:] for line in markdown.splitlines() if line.startswith("| perplexity")]
    assert [row[2] for row in rows] == ["stride 64 |", "stride 16 |"]


def test_a_bag_of_words_stands_beside_the_classifier(tmp_path: Path, make_run: MakeRun) -> None:
    common = {"metric": "accuracy", "data": "data/SST-2/dev.tsv", "unit": "texts"}
    page, markdown = report(
        tmp_path, make_run(scores=[score(task="classify", value=0.8, **common), score(task="bag of words", value=0.7, **common)])
    )
    assert len(page.all("table", class_="scores")) == 1 and "a: bag of words" in markdown
    assert [dot["fill"] for dot in page.all("circle")] == ["var(--run-0)", "var(--paper)", "var(--paper)"]
    assert "GPT-1 117M" in markdown


def test_a_score_of_other_weights_is_marked(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run()
    ours = weights_hash(run)
    lines = [
        score(task=task, model_sha256=sha, value=value)
        for task, sha, value in (("old", "f" * 64, 0.1), ("new", ours, 0.2), ("new", "f" * 64, 0.3))
    ]
    write_lines(run / "evaluations.jsonl", lines)
    _, markdown = report(tmp_path, run)
    rows = [line for line in markdown.splitlines() if line.startswith(("| old", "| new"))]
    assert "| 20.00" in rows[1]  # of the two, the one that is about the run's best weights
    assert ["by other weights" in row for row in rows] == [True, False]


def test_summary_says_best_loss_speed_and_how_far_it_came(make_run: MakeRun) -> None:
    facts = read_run(make_run(steps=20), "a")
    assert facts is not None
    row = summary(facts)
    assert row["val loss"] == f"{3 / 8**0.5 + 0.1:.4f}" and row["tokens seen"] == "800" and row["time"] == "0:16 min"
    assert row["status"] == "unfinished: step 8 of 20" and row["what"] == "pre-training"
    assert facts.parameters == sum(math.prod(shape) for shape in _shapes(facts.folder))


def test_bits_per_byte_follow_from_the_bytes_of_the_validation_text(make_run: MakeRun) -> None:
    facts = read_run(make_run(), "a")
    assert facts is not None and facts.best_bits_per_byte is None
    facts.corpus = {"val": {"tokens": 500, "bytes": 2000}}
    assert facts.best is not None and facts.best_bits_per_byte == pytest.approx(facts.best[0] * 500 / 2000 / math.log(2))


def test_another_tokenizer_brings_the_panel_of_bits_per_byte(make_run: MakeRun) -> None:
    runs = [read_run(make_run(name), name) for name in "ab"]
    for run, tokenizer, size in zip(runs, ("bpe", "char"), (4, 1), strict=True):
        assert run is not None
        run.tokenizer, run.corpus = tokenizer, {"val": {"tokens": 100, "bytes": 100 * size}}
    several = [run for run in runs if run is not None]
    assert "bits per byte" in draw_curves(several)
    several[1].tokenizer = "bpe"
    assert "bits per byte" not in draw_curves(several)


def test_a_long_training_curve_is_averaged_not_cut() -> None:
    points = [(float(x), math.sin(x)) for x in range(4999)]
    drawn = thinned(points)
    assert len(drawn) <= MOST_POINTS and thinned(points[:MOST_POINTS]) == points[:MOST_POINTS]
    assert drawn[0] == (4.5, pytest.approx(sum(y for _, y in points[:10]) / 10)) and drawn[-1][0] == pytest.approx(4994)


def _shapes(run: Path) -> list[list[int]]:
    from safetensors import safe_open

    with safe_open(next(run.glob("checkpoints/*/model.safetensors")), framework="np") as tensors:
        return [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118
