"""A disk that is full when a checkpoint is due: the checkpoints before it are intact, the message says what is missing, the run can go on.

Once for every single write of a save, refused one after the other; and on a real disk, small, that others fill in mid-run.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
from collections.abc import Callable
from multiprocessing import util
from pathlib import Path

import pytest
from deaths import in_the_save_of
from harness import assert_same_end, resume_words, shell_code, sound_step, start, train_words, unlike_one_another

from gpt_kit.cli import main
from gpt_kit.training import Trainer, read_metrics

DISK_BYTES, LEFT_BYTES = 20_000_000, 100_000  # checkpoints of 280 kB find room in the first, and metrics.jsonl in the second
NEW_USER, NEW_MOUNTS = 0x10000000, 0x00020000  # <sched.h>


@pytest.fixture(scope="module")
def refusals(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, Path]]:
    """The save of step 12 with one write of it refused: which one, what the save raised ("" for nothing), and the run as it was left."""
    folder = tmp_path_factory.mktemp("refusals")
    process = start(train_words(corpus, folder / "run"), folder / "log", in_the_save_of, 12, folder / "run", folder / "copies", True)
    process.join(120)
    copies = sorted((folder / "copies").iterdir())
    assert len(copies) > 20 and not (copies[-1] / "died").exists()
    errors = [(copy / "error").read_text() if (copy / "error").exists() else "" for copy in copies]
    return [((copy / "died").read_text(), error, copy) for copy, error in zip(copies[:-1], errors, strict=False)]


@pytest.mark.slow
def test_no_room_at_any_write_of_a_save(refusals: list[tuple[str, str, Path]], uninterrupted: Callable[..., Path], tmp_path: Path) -> None:
    """The checkpoint before is intact, and from it the run ends as it would have."""
    steps = {sound_step(copy) for _, _, copy in refusals}
    assert steps == {10, 12}, "12 where only a pointer or the deletion of an old checkpoint was refused"
    different = unlike_one_another([copy for _, _, copy in refusals])
    for refused, _, copy in refusals:
        if copy not in different:
            continue
        run = tmp_path / copy.name
        shutil.copytree(copy, run)
        assert main(resume_words(run)) == 0, refused
        try:
            assert_same_end(uninterrupted(), run)
        except AssertionError as error:
            raise AssertionError(f"refused: {refused}") from error


def test_every_refusal_is_explained(refusals: list[tuple[str, str, Path]]) -> None:
    """Renaming apart, which needs no room."""
    unexplained = [
        refused
        for refused, error, _ in refusals
        if error and "os.rename" not in refused and not re.search(r"the disk is full \(.*[\d,]+ bytes free\)", error)
    ]
    assert not unexplained


def on_a_disk_that_is_full(folder: Path, kept: Path, until: int) -> None:
    """Mount a small disk on `folder`, for this process alone. From step 6 on it is full, before step `until` there is room again.

    When the process ends, what is there is copied to `kept`.
    """
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(NEW_USER | NEW_MOUNTS) == 0, os.strerror(ctypes.get_errno())
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    folder.mkdir()
    assert libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={DISK_BYTES}".encode()) == 0, os.strerror(ctypes.get_errno())
    util.Finalize(None, shutil.copytree, (folder, kept), exitpriority=1)
    make_step, others = Trainer._step, folder / "of-others"

    def step(trainer: Trainer) -> None:
        if trainer.state.step == 5:
            others.write_bytes(bytes(shutil.disk_usage(folder).free - LEFT_BYTES))
        if trainer.state.step == until - 1:
            others.unlink()
        make_step(trainer)

    Trainer._step = step  # type: ignore[method-assign]


def train_on_that_disk(corpus: Path, folder: Path, until: int, **changes: object) -> tuple[int, str, Path]:
    """Gives exit code, what the run said, and the run."""
    log = folder / "log"
    process = start(
        train_words(corpus, folder / "disk" / "run", **changes), log, on_a_disk_that_is_full, folder / "disk", folder / "kept", until
    )
    process.join(120)
    if not (folder / "kept").exists():
        pytest.skip(f"this system lets nobody mount a small disk: {log.read_text().splitlines()[-1:]}")
    return shell_code(process), " ".join(log.read_text().split()), folder / "kept" / "run"


@pytest.fixture(scope="module")
def full_to_the_end(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str, Path]:
    return train_on_that_disk(corpus, tmp_path_factory.mktemp("full"), until=99)


def test_a_full_disk_costs_no_checkpoint(
    full_to_the_end: tuple[int, str, Path], uninterrupted: Callable[..., Path], tmp_path: Path
) -> None:
    """And the run ends where it would have ended, when there is room again."""
    code, said, run = full_to_the_end
    assert code == 1 and "the disk is full" in said and "Traceback" not in said
    assert sound_step(run) == 5
    assert not list(run.rglob(".incomplete-*")), "what had no room was left behind"
    shutil.copytree(run, tmp_path / "run")
    assert main(resume_words(tmp_path / "run")) == 0
    assert_same_end(uninterrupted(), tmp_path / "run")


def test_the_message_gives_needed_and_free_bytes(full_to_the_end: tuple[int, str, Path]) -> None:
    said = re.search(r"([\d,]+) bytes needed, ([\d,]+) bytes free", full_to_the_end[1])
    assert said is not None
    needed, free = (int(number.replace(",", "")) for number in said.groups())
    assert 250_000 < needed < 6_000_000 and free <= LEFT_BYTES


def test_the_run_goes_on_by_choice(corpus: Path, uninterrupted: Callable[..., Path], tmp_path: Path) -> None:
    """No room from step 6 to 17: some checkpoints are not written, every step is made, and the end is that of any other run."""
    code, said, run = train_on_that_disk(corpus, tmp_path, until=18, checkpoints__on_full_disk="continue")
    assert code == 0, said
    assert "the disk is full" in said
    assert_same_end(uninterrupted(), run)


def test_the_run_stops_by_choice(corpus: Path, tmp_path: Path) -> None:
    code, said, run = train_on_that_disk(corpus, tmp_path, until=18, checkpoints__on_full_disk="stop")
    assert code == 1 and "the disk is full" in said
    assert read_metrics(run / "metrics.jsonl")[-1]["step"] == 8, (
        "the first checkpoint without room is that of step 8, its first evaluation's"
    )
