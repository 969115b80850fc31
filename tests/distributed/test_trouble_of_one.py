"""What happens to one of two processes counts for both: an update that is no number, a disk without room."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from distributed_runs import FLAGS, STEPS, finish, torchrun

from gpt_kit.files import read_json


def last_state(run: Path) -> dict[str, object]:
    state: dict[str, object] = read_json(run / "checkpoints" / f"step-{STEPS:08d}" / "training_state" / "state.json")
    return state


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_a_loss_that_is_no_number_on_one_is_skipped_by_both(kind: str, text_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, said = finish(torchrun(["--data", text_file, "--out", run, *FLAGS, f"--training.parallel={kind}"], ACCIDENT="nan:1:6"))
    assert code == 0, said
    assert last_state(run)["updates"] == STEPS - 1
    (file,) = (run / "skipped").iterdir()
    written = json.loads(file.read_text())
    assert (file.name, written["why"], len(written["windows"])) == ("step-00000007.json", "not finite", 5), "the whole batch, not a share"


@pytest.mark.slow
def test_a_disk_without_room_costs_both_a_checkpoint_and_no_step(text_file: Path, tmp_path: Path) -> None:
    """No room for the checkpoint of step 8; nobody waits for the other, and the run ends with its last one."""
    run = tmp_path / "run"
    code, said = finish(torchrun(["--data", text_file, "--out", run, *FLAGS], ACCIDENT="full:0:7"))
    assert code == 0, said
    assert "bytes needed, " in said and "The run goes on" in said
    assert [folder.name for folder in sorted((run / "checkpoints").glob("step-*"))] == ["step-00000004", f"step-{STEPS:08d}"]
    assert last_state(run)["updates"] == STEPS
