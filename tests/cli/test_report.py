"""gpt-kit report on a run that gpt-kit train made."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]


def test_the_command_in_the_report_repeats_the_run(run: Run, finished_run: Path, tmp_path: Path) -> None:
    """As it stands in the Markdown, and the weights it makes have the hash that the report gives: the same to the last bit."""
    shutil.copytree(finished_run, tmp_path / "tiny")
    code, out, err = run("report", tmp_path / "tiny", "--out", tmp_path / "report")
    assert (code, err) == (0, "") and str(tmp_path / "report.html") in out
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^    gpt-kit (train .*)$", markdown, re.MULTILINE)
    code, _, err = run(*shlex.split(command))
    assert (code, err) == (0, "")
    again = tmp_path / "tiny-again"
    best = again / "checkpoints" / (again / "checkpoints" / "best").read_text(encoding="utf-8").strip()
    for name, file in (("model.safetensors", best / "MANIFEST.json"), ("corpus", best / "training_state" / "state.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        assert f"| {name} | {found[name] if name in found else found['data_order'][name]} |" in markdown


def test_bits_per_byte_are_of_the_whole_validation_text(run: Run, finished_run: Path, tmp_path: Path) -> None:
    """Of characters of one byte: the loss over the whole text by ln 2, and not that over the part that each evaluation reads."""
    assert run("report", finished_run, "--out", tmp_path / "report")[0] == 0
    last = json.loads((finished_run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert abs(last["val/whole_loss"] - last["val/loss"]) > 0.01
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert f"| {last['val/loss']:.4f} | {last['val/whole_loss'] / math.log(2):.3f} |" in markdown


def test_damage_is_noted_and_no_run_at_all_is_a_mistake_of_use(run: Run, finished_run: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(finished_run, damaged)
    with open(damaged / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 1\n')
    code, out, _ = run("report", damaged, tmp_path / "none", "--out", tmp_path / "report")
    assert code == 0 and "metrics.jsonl:" in out and "none: there is no such folder" in out
    code, _, err = run("report", tmp_path / "none")
    assert code == 2 and "no run, so nothing to report" in err
    assert run("report")[0] == 2
