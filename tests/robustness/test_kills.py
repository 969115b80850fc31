"""kill -9: at random moments, and before every single change to the disk in a save, a pruning and a start.

Whatever the moment: where there was a sound checkpoint there is one, the run goes on by `--resume auto`, and it ends bit for bit where
an uninterrupted one ends, with every step in metrics.jsonl once.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from deaths import KILLED, before_step, in_the_save_of, in_the_start_of
from harness import assert_same_end, assert_steps_counted_once, resume_words, shell_code, sound_step, start, train_words, unlike_one_another

from gpt_kit.cli import main

KILLS, LONG_RUN = 30, 200


@pytest.mark.slow
def test_thirty_kills_at_random_moments(corpus: Path, uninterrupted: Callable[..., Path], tmp_path: Path) -> None:
    """Each up to a second after the process began: while it starts, steps, saves, prunes, evaluates, samples or draws its curve.

    One run takes most of them; where a machine is fast enough to finish it, the next run takes the rest.
    """
    changes = {"training__max_steps": LONG_RUN}
    whole, run, log = uninterrupted(**changes), tmp_path / "run", tmp_path / "log"
    start(["--version"], log).join()  # the first child waits for the server's imports
    rng, reached, kills = random.Random(9), [0], 0
    while kills < KILLS:
        process = start(resume_words(run) if (run / "config.toml").exists() else train_words(corpus, run, **changes), log)
        process.join(rng.uniform(0, 1))
        process.kill()
        process.join()
        assert_steps_counted_once(run, until=None)
        if shell_code(process) == 0:
            assert_same_end(whole, run, LONG_RUN)
            run = tmp_path / f"run-after-{kills}-kills"
            reached.append(0)
            continue
        assert shell_code(process) == KILLED, log.read_text()
        assert sound_step(run) >= reached[-1], "a sound checkpoint was lost"
        reached.append(sound_step(run))
        kills += 1
    assert len(set(reached)) > 5, "the kills did not fall all over the run"
    assert main(resume_words(run)) == 0
    assert_same_end(whole, run, LONG_RUN)


def check_every_death(whole: Path, folder: Path, sound: int) -> list[str]:
    """Every copy that differs from the others goes on to the end. Gives what each died before."""
    died, copies = [], sorted(folder.iterdir())
    resumed = unlike_one_another(copies)
    assert not (copies[-1] / "died").exists() and not (copies[-1] / "error").exists(), "the last one should have lived"
    for copy in copies:
        died.append((copy / "died").read_text() if (copy / "died").exists() else "nothing: it lived")
        assert sound_step(copy) >= sound, f"{copy.name} died before {died[-1]}: the sound checkpoint was lost"
        if copy not in resumed:
            continue
        assert main(resume_words(copy)) == 0, f"{copy.name} died before {died[-1]}"
        try:
            assert_same_end(whole, copy)
        except AssertionError as error:
            raise AssertionError(f"{copy.name} died before {died[-1]}") from error
    return died


@pytest.mark.slow
def test_a_kill_at_every_point_of_a_save_and_its_pruning(corpus: Path, uninterrupted: Callable[..., Path], tmp_path: Path) -> None:
    """The save of step 12, which is the best so far and makes two older checkpoints superfluous."""
    run, folder = tmp_path / "run", tmp_path / "deaths"
    changes = {"checkpoints__keep": 1}
    process = start(train_words(corpus, run, **changes), tmp_path / "log", in_the_save_of, 12, run, folder)
    process.join(120)
    assert shell_code(process) == KILLED
    died = check_every_death(uninterrupted(**changes), folder, sound=10)
    for point in ("save_file", "MANIFEST.json", "checkpoints/last", "checkpoints/best", "rmtree", "rmdir"):
        assert any(point in what for what in died), f"none died before {point}"


@pytest.mark.slow
def test_a_kill_at_every_point_of_a_start(corpus: Path, uninterrupted: Callable[..., Path], tmp_path: Path) -> None:
    """Of a run that is resumed, and has curves and samples from after its newest checkpoint to drop."""
    run, folder = tmp_path / "run", tmp_path / "deaths"
    process = start(train_words(corpus, run), tmp_path / "log", before_step, 20)
    process.join(120)
    assert shell_code(process) == KILLED and sound_step(run) == 16
    shutil.rmtree(run / "checkpoints" / "step-00000016")
    process = start([], tmp_path / "log", in_the_start_of, resume_words(run), run, folder)
    process.join(120)
    died = check_every_death(uninterrupted(), folder, sound=12)
    for point in ("config.toml", "environment.json", "metrics.jsonl", "samples.md"):
        assert any(point in what for what in died), f"none died before {point}"


@pytest.mark.parametrize("name", ["checkpoints/.incomplete-last-0123abcd", ".incomplete-metrics.jsonl-0123abcd"])
def test_a_file_that_a_kill_left_half_written_is_removed(name: str, corpus: Path, tmp_path: Path) -> None:
    """Small files are written under a temporary name as well, which a kill leaves behind."""
    run = tmp_path / "run"
    assert main(train_words(corpus, run, training__max_steps=4)) == 0
    (run / name).write_text("step-000")
    assert main([*resume_words(run), "--training.max-steps", "8"]) == 0
    assert not (run / name).exists()


def test_going_back_and_dying_before_the_next_save_loses_no_losses(uninterrupted: Callable[..., Path], tmp_path: Path) -> None:
    """--resume CHECKPOINT with an earlier one: killed soon, and resumed by `auto`, every step still has its line in metrics.jsonl."""
    run = tmp_path / "run"
    shutil.copytree(uninterrupted(), run)
    earlier = sorted((run / "checkpoints").glob("step-*"))[0]
    went_back = int(earlier.name.removeprefix("step-"))
    words = ["train", "--out", str(run), "--resume", str(earlier), "--evaluation.interval", "100"]
    process = start(words, tmp_path / "log", before_step, went_back + 1)
    process.join(120)
    assert shell_code(process) == KILLED
    assert main(resume_words(run)) == 0
    assert_steps_counted_once(run)
