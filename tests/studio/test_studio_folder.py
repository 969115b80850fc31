"""What is found in a runs folder, and that nothing outside it is read."""

from __future__ import annotations

import json
import os
import time

import pytest

from gpt_kit.errors import InputError
from gpt_kit.studio.folder import Place, RunsFolder
from gpt_kit.studio.history import curve, is_running, progress, read_history, read_samples


@pytest.fixture
def copy(runs_folder, tmp_path):
    import shutil

    return shutil.copytree(runs_folder, tmp_path / "runs")


def test_runs_and_models_are_found_by_name(copy):
    (copy / "talk").rename(copy / "moved")
    (copy / "sweep").mkdir()
    (copy / "moved").rename(copy / "sweep" / "talk")
    os.utime(copy / "sweep" / "talk" / "metrics.jsonl", (2e9, 2e9))
    folder = RunsFolder(copy)
    assert [place.name for place in folder.places()] == ["lone", "story", "sweep/talk"]
    assert [place.name for place in folder.runs()] == ["sweep/talk", "story"]
    assert list(folder.models()) == ["lone", "story", "story · step 4", "sweep/talk", "sweep/talk · step 4"]


def test_a_run_can_be_given_itself(runs_folder):
    assert list(RunsFolder(runs_folder / "story").models()) == ["story", "story · step 4"]


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(InputError, match="gpt-kit quickstart"):
        RunsFolder(tmp_path / "nothing")


def test_links_out_of_the_folder_are_left_out(copy, runs_folder):
    """A run, a checkpoint, and a file of a model, each by a link; the one that stays inside is taken."""
    (copy / "run-outside").symlink_to(runs_folder / "story")
    (copy / "lone" / "model.safetensors").unlink()
    (copy / "lone" / "model.safetensors").symlink_to(runs_folder / "lone" / "model.safetensors")
    (copy / "story" / "checkpoints" / "step-00000009").symlink_to(runs_folder / "story" / "checkpoints" / "step-00000008")
    (copy / "story" / "checkpoints" / "step-00000010").symlink_to(copy / "story" / "checkpoints" / "step-00000008")
    folder = RunsFolder(copy)
    assert list(folder.models()) == ["story", "story · step 10", "story · step 4", "talk", "talk · step 4"]
    with pytest.raises(InputError, match="leads out of"):
        folder.check_model(copy / "lone")


def test_files_of_a_run_that_lead_out_are_not_read(copy, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("## step 1\n\n````text\nsecret\n````\n")
    (copy / "story" / "samples.md").unlink()
    (copy / "story" / "samples.md").symlink_to(secret)
    with pytest.raises(InputError, match="leads out of"):
        read_samples(RunsFolder(copy), Place("story", copy / "story", True))


@pytest.mark.parametrize("base", ["outside", "organisation/model"])
def test_an_adapter_whose_base_is_elsewhere_is_left_out(copy, runs_folder, base, monkeypatch):
    """Nor is its base looked for on the hub."""
    monkeypatch.setattr("gpt_kit.locate._download", lambda name: pytest.fail(f"asked the hub for {name}"))
    (copy / "added").mkdir()
    name = str(runs_folder / "lone") if base == "outside" else base
    (copy / "added" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": name}))
    assert "added" not in RunsFolder(copy).models()
    (copy / "added" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "../lone"}))
    assert "added" in RunsFolder(copy).models()


def test_history_is_what_the_run_wrote(runs_folder):
    folder = RunsFolder(runs_folder)
    story, talk = (read_history(folder, Place(name, folder.root / name, True)) for name in ("story", "talk"))
    assert (story.kind, story.status, progress(story), story.best) == ("pre-training", "finished", 1.0, (3.7, 8))
    assert (talk.kind, talk.step, progress(talk)) == ("chat tuning", 8, 0.4)
    assert curve(story, "val/loss", "tokens_seen") == [(200, pytest.approx(4.1)), (400, pytest.approx(3.7))]
    assert is_running(talk) and not is_running(story)


def test_a_run_that_is_silent_is_not_running(copy):
    os.utime(copy / "talk" / "metrics.jsonl", (time.time() - 3600,) * 2)
    folder = RunsFolder(copy)
    assert not is_running(read_history(folder, Place("talk", copy / "talk", True)))


def test_samples_are_read_and_text_in_fences_stays_text(runs_folder):
    folder = RunsFolder(runs_folder)
    first, second = read_samples(folder, Place("story", folder.root / "story", True))
    assert (first.step, first.title, second.step) == (4, "validation loss 4.100", 8)
    assert "<script>" in first.parts[0][1]
    assert first.predictions == [("a", "b", "<b>", 0.25), ("b", "c", "c", 0.5)]
    assert second.parts == [("", "Twice\n## step 9, not a heading")]
    (talk,) = read_samples(folder, Place("talk", folder.root / "talk", True))
    assert [label for label, _ in talk.parts] == ["asked", "answered", "asked"]


def test_a_last_line_cut_short_is_no_trouble(copy):
    with open(copy / "talk" / "metrics.jsonl", "a") as file:
        file.write('{"step": 9, "tok')
    assert read_history(RunsFolder(copy), Place("talk", copy / "talk", True)).step == 8
