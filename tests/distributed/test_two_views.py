"""Two processes that do not see the same checkpoints, as on two machines: nobody goes on from what another one cannot read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from distributed_runs import STEPS, figures, finish, largest_difference, two_processes

from gpt_kit.files import write_manifest

NEWEST = Path(f"run/checkpoints/step-{STEPS:08d}")
RESUME = ["--out", "run", "--resume", "auto"]


@pytest.fixture
def there(by_one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where process 1 starts, beside a finished run of its own; process 0 starts beside another copy of it."""
    for place in ("here", "there"):
        shutil.copytree(by_one, tmp_path / place / "run")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "there"


def test_all_go_on_from_the_newest_checkpoint_that_is_sound_for_all(by_one: Path, there: Path) -> None:
    """Process 1 alone finds damage in the newest; both take the one before, and end where one process ends."""
    damaged = there / NEWEST / "training_state" / "optimizer.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-4])
    said = ""
    for code, text in map(finish, two_processes(RESUME, FOLDER_OF_RANK_1=there)):
        assert code == 0, text
        said += text
    assert f"rank 1: {NEWEST}: training_state/optimizer.safetensors does not match its manifest" in said
    assert "resumed from run/checkpoints/step-00000008 at step 8" in said
    assert largest_difference(figures(by_one), figures(Path("run"))) < 1e-5


def test_another_checkpoint_of_the_same_name_is_named_at_the_start(there: Path) -> None:
    """Sound for each, and not the same."""
    state = there / NEWEST / "training_state" / "state.json"
    state.write_text(state.read_text() + "\n")
    write_manifest(there / NEWEST)
    for code, said in map(finish, two_processes(RESUME, FOLDER_OF_RANK_1=there)):
        assert code == 2, said
        assert f"the 2 processes of this run disagree about {NEWEST} (" in said
