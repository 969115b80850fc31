"""What a run says while it runs: one line a record, nothing of an abandoned future, curves that show what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpt_kit.errors import DataError
from gpt_kit.training import MetricsFile, draw_loss_png, draw_loss_text, points_of, read_metrics

RECORDS = [{"step": step, "tokens_seen": 10 * step, "train/loss": 5.0 / step} for step in range(1, 9)]


def write(path: Path, records: list[dict], at_step: int = 0, evaluated_step: int | None = None) -> None:
    file = MetricsFile(path, at_step, at_step if evaluated_step is None else evaluated_step)
    for record in records:
        file.record(record)
    file.say("words are not metrics")
    file.progress(3, "nor is progress")
    file.close()


def test_every_record_is_one_line_and_is_read_back_exactly(tmp_path: Path) -> None:
    path, records = tmp_path / "metrics.jsonl", [*RECORDS, {"step": 9, "tokens_seen": 90, "val/loss": 0.1 + 0.2}]
    write(path, records)
    assert [json.loads(line) for line in path.read_text().splitlines()] == records
    assert read_metrics(path) == records


def test_a_record_is_on_disk_at_once(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl", 0, 0)
    file.record(RECORDS[0])
    assert read_metrics(tmp_path / "metrics.jsonl") == RECORDS[:1]
    file.close()


def test_resuming_at_a_step_drops_what_came_after_it(tmp_path: Path) -> None:
    """A kill after step 8, resumed at 5: steps 6 to 8 are recorded once, by the run that goes on."""
    write(tmp_path / "metrics.jsonl", RECORDS)
    write(tmp_path / "metrics.jsonl", RECORDS[5:], at_step=5)
    assert read_metrics(tmp_path / "metrics.jsonl") == RECORDS


def test_a_last_line_cut_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, RECORDS)
    path.write_text(path.read_text()[:-12])
    assert read_metrics(path) == RECORDS[:-1]
    write(path, RECORDS[-1:], at_step=7)
    assert read_metrics(path) == RECORDS
    assert read_metrics(tmp_path / "nowhere.jsonl") == []


def test_an_evaluation_that_is_about_to_be_made_again_is_dropped(tmp_path: Path) -> None:
    """Saved at step 5 before its evaluation, resumed, evaluated, killed, and resumed at 5 once more: one evaluation of step 5."""
    path, evaluation = tmp_path / "metrics.jsonl", {"step": 5, "tokens_seen": 50, "val/loss": 2.0}
    write(path, [*RECORDS[:5], evaluation])
    write(path, [evaluation], at_step=5, evaluated_step=3)
    assert read_metrics(path) == [*RECORDS[:5], evaluation]


@pytest.mark.parametrize("damage", [b"{}", b"[1]", b"{nonsense", b"\xff\xfe", b"17"])
def test_any_other_damaged_line_is_named(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, RECORDS)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:3], damage, *lines[4:]]) + b"\n")
    with pytest.raises(DataError, match=r"metrics\.jsonl:4: not a record"):
        read_metrics(path)


def test_points_are_taken_where_they_were_measured() -> None:
    records = [*RECORDS[:2], {"step": 2, "val/loss": 3.0}, {"step": 4, "val/loss": 2.0}]
    assert points_of(records, "val/loss") == [(2, 3.0), (4, 2.0)]
    assert points_of(records, "train/loss") == [(1, 5.0), (2, 2.5)]


def test_the_curve_in_text_falls_where_the_loss_falls() -> None:
    """The first column's dots are at the top, the last column's at the bottom; both extremes are labelled."""
    text = draw_loss_text([(step, 4.0 - step / 100) for step in range(301)], width=30, height=6)
    lines = text.splitlines()
    assert len(lines) == 8
    assert "4.000" in lines[0] and "1.000" in lines[5]
    plot = [line[9:] for line in lines[:6]]
    blank = chr(0x2800)
    assert plot[0][0] != blank and plot[-1][0] == blank
    assert plot[0][-1] == blank and plot[-1][-1] != blank
    assert "step 0" in lines[-1] and lines[-1].rstrip().endswith("300")


@pytest.mark.parametrize("points", [[(1, 2.0), (2, 2.0)], [(5, 1.0), (5, 2.0)], [(1, 1.0), (100, 0.5), (101, 3.0)]])
def test_flat_short_and_uneven_curves_are_drawn_too(points: list[tuple[float, float]]) -> None:
    lines = draw_loss_text(points, width=20, height=4).splitlines()
    assert all(len(line) == 29 for line in lines[:4])
    assert any(0x2800 < ord(character) <= 0x28FF for line in lines for character in line)


@pytest.mark.parametrize("points", [[], [(1, 2.0)]])
def test_fewer_than_two_points_make_no_curve(points: list[tuple[float, float]]) -> None:
    assert draw_loss_text(points) == ""


def test_the_png_is_a_picture_that_shows_the_validation_too(tmp_path: Path) -> None:
    draw_loss_png(tmp_path / "train.png", RECORDS, "title")
    draw_loss_png(tmp_path / "both.png", [*RECORDS, {"step": 3, "val/loss": 2.0}, {"step": 8, "val/loss": 1.0}], "title")
    train, both = ((tmp_path / name).read_bytes() for name in ("train.png", "both.png"))
    assert train.startswith(b"\x89PNG") and len(train) > 5_000
    assert train != both
