"""Damage on the disk: 300 flipped bits and every kind of truncation, over all files of a checkpoint.

Each is found before a tensor reaches the model; the newest sound checkpoint is taken instead, and said; and where none is sound the run
does not start over in silence.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from harness import assert_same_end, resume_words, sound_step

from gpt_kit import files
from gpt_kit.cli import main
from gpt_kit.config import TrainingConfig, load_run_config
from gpt_kit.errors import CheckpointError
from gpt_kit.files import MANIFEST
from gpt_kit.locate import best_checkpoint
from gpt_kit.model import GPTModel
from gpt_kit.training import Optimizers, newest_sound_checkpoint, restore_checkpoint

FLIPS = 300


@pytest.fixture
def stopped(uninterrupted: Callable[..., Path], tmp_path: Path) -> Path:
    """A run of 10 steps with checkpoints 8 and 10, to be damaged and gone on with."""
    run = tmp_path / "run"
    shutil.copytree(uninterrupted(training__max_steps=10), run)
    assert sorted(path.name for path in (run / "checkpoints").glob("step-*")) == ["step-00000008", "step-00000010"]
    return run


def files_of(checkpoint: Path) -> list[Path]:
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    names = {str(path.relative_to(checkpoint)) for path in files}
    training = {f"training_state/{name}" for name in ("state.json", "optimizer.safetensors", "random.safetensors")}
    assert names >= {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", MANIFEST, *training}
    return files


def damages(checkpoint: Path) -> list[tuple[Path, str, bytes]]:
    """(file, what is done to it, its content then): a bit of every file at least, the rest of 300 by size; and every truncation."""
    rng, files = random.Random(5), files_of(checkpoint)
    done = []
    for number in range(FLIPS):
        file = files[number % len(files)] if number < FLIPS // 2 else rng.choices(files, [path.stat().st_size for path in files])[0]
        content = bytearray(file.read_bytes())
        place, bit = rng.randrange(len(content)), rng.randrange(8)
        content[place] ^= 1 << bit
        done.append((file, f"bit {bit} of byte {place} flipped", bytes(content)))
    for file in files:
        content = file.read_bytes()
        length = len(content) - (file.name == MANIFEST)  # without the newline at its end the manifest says the same
        done += [(file, f"cut to {size} bytes", content[:size]) for size in (0, 1, length // 2, length - 1)]
    return done


def test_no_damage_reaches_the_model(stopped: Path) -> None:
    """Restoring names the damaged file and leaves weights, optimizer and random state as they are; the checkpoint before is found."""
    newest, older = stopped / "checkpoints" / "step-00000010", stopped / "checkpoints" / "step-00000008"
    torch.manual_seed(0)
    model = GPTModel(load_run_config(stopped / "config.toml").model)
    optimizers = Optimizers(model, TrainingConfig(), torch.device("cpu"))
    before = {name: tensor.clone() for name, tensor in model.exported_tensors().items()}
    random_state = torch.get_rng_state()
    for file, what, content in damages(newest):
        whole, name = file.read_bytes(), str(file.relative_to(newest))
        file.write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            restore_checkpoint(newest, model, optimizers)
        found, said = newest_sound_checkpoint(stopped)
        file.write_bytes(whole)
        assert str(newest) in str(caught.value), f"{name}, {what}: {caught.value}"
        assert name in str(caught.value) or name == MANIFEST, f"{name}, {what}: {caught.value}"
        assert found == older and len(said) == 1, f"{name}, {what}"
        assert all(torch.equal(tensor, before[key]) for key, tensor in model.exported_tensors().items()), f"{name}, {what}"
        assert not optimizers.state_tensors(), f"{name}, {what}"
        assert torch.equal(torch.get_rng_state(), random_state), f"{name}, {what}"
    assert restore_checkpoint(newest, model, optimizers).step == 10


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "training_state/state.json", MANIFEST])
def test_the_run_goes_on_from_the_checkpoint_before(
    name: str, stopped: Path, uninterrupted: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Says which file is damaged and what is taken instead, and ends where an undamaged run ends."""
    file = stopped / "checkpoints" / "step-00000010" / name
    file.write_bytes(file.read_bytes()[:-2])
    capsys.readouterr()
    assert main(resume_words(stopped)) == 0
    out, _ = capsys.readouterr()
    said = " ".join(out.split())
    assert f"step-00000010: {name}" in said or f"step-00000010/{name}" in said
    assert f"resumed from {stopped / 'checkpoints' / 'step-00000008'} at step 8" in said
    assert_same_end(uninterrupted(training__max_steps=10), stopped, steps=10)


def test_without_a_sound_checkpoint_nothing_is_overwritten(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for checkpoint in (stopped / "checkpoints").glob("step-*"):
        (checkpoint / "model.safetensors").write_bytes(b"")
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    assert main(resume_words(stopped)) == 2
    assert "none of its 2 checkpoints is sound" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file() and path.name != ".lock"} == {
        path: content for path, content in before.items() if path.name != ".lock"
    }


@pytest.mark.parametrize("resume", ["auto", "step-00000008"])
def test_a_checkpoint_is_hashed_once(resume: str, stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of GPT-2 XL it has 19 GB: looking for the newest sound one and loading it are one look."""
    hashed: list[Path] = []
    whole = files.sha256_of_file
    monkeypatch.setattr(files, "sha256_of_file", lambda path: hashed.append(path) or whole(path))
    monkeypatch.setattr("gpt_kit.training.Trainer.fit", lambda _: None)
    checkpoint = stopped / "checkpoints" / ("step-00000010" if resume == "auto" else resume)
    every_file = [file for file in files_of(checkpoint) if file.name != MANIFEST]
    assert main(["train", "--out", str(stopped), "--resume", resume if resume == "auto" else str(checkpoint)]) == 0
    assert sorted(file for file in hashed if (stopped / "checkpoints") in file.parents) == every_file


def pointer_damages() -> list[bytes]:
    """Every bit of `step-00000010`, and every truncation."""
    whole = b"step-00000010\n"
    flips = [whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :] for place in range(len(whole)) for bit in range(8)]
    return [*flips, *(whole[:size] for size in range(len(whole)))]


@pytest.mark.parametrize("pointer", ["last", "best"])
def test_damaged_pointers_mislead_no_resume(pointer: str, stopped: Path) -> None:
    """Resuming looks at the checkpoints themselves."""
    for content in pointer_damages():
        (stopped / "checkpoints" / pointer).write_bytes(content)
        assert sound_step(stopped) == 10


def test_a_damaged_best_gives_another_checkpoint(stopped: Path) -> None:
    """A model is read by way of `best`: where that names nothing, by way of `last`."""
    for content in pointer_damages():
        (stopped / "checkpoints" / "best").write_bytes(content)
        assert (best_checkpoint(stopped) / MANIFEST).is_file(), content


def test_a_damaged_weight_is_no_part_of_a_text(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = stopped / "checkpoints" / "step-00000010" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    weights.write_bytes(bytes(content))
    assert main(["generate", str(stopped), "--prompt", "sun"]) == 2
    assert "model.safetensors does not match its manifest" in capsys.readouterr().err


def test_a_damaged_config_is_no_part_of_a_text(stopped: Path) -> None:
    """One bit makes 1 head of 3: the weights fit as well, and the text is another one."""
    config = stopped / "checkpoints" / "step-00000010" / "config.json"
    config.write_text(config.read_text().replace('"n_head": 3', '"n_head": 1'))
    assert main(["generate", str(stopped), "--prompt", "sun"]) == 2
