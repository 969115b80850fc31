"""Checkpoints: whole or not there, every flipped byte found, the best kept, the newest sound one resumed from."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt_kit.config import ModelConfig, TrainingConfig
from gpt_kit.errors import CheckpointError
from gpt_kit.files import check_manifest
from gpt_kit.locate import best_checkpoint, step_folders
from gpt_kit.model import GPTModel
from gpt_kit.runtime import choose_precision, seed_everything
from gpt_kit.tokenizers import Tokenizer, load_tokenizer, train_tokenizer
from gpt_kit.training import Optimizers, TrainingState, newest_sound_checkpoint, restore_checkpoint, save_checkpoint
from gpt_kit.training.checkpoint import checkpoint_folder, prune_checkpoints, set_aside_after

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer("char", ["".join(map(chr, range(40, 101)))])  # 61 characters


@pytest.fixture
def parts(tiny_config: Callable[..., ModelConfig]) -> tuple[GPTModel, Optimizers]:
    torch.manual_seed(2)
    model = GPTModel(tiny_config(residual_dropout=0.2))
    return model, Optimizers(model, TrainingConfig(learning_rate=1e-2), CPU)


def train(model: GPTModel, optimizers: Optimizers) -> float:
    """One update with dropout, on tokens drawn from torch's own state."""
    model.train()
    ids = torch.randint(0, 61, (3, 8))
    optimizers.zero_grad()
    loss = model.loss_sum(ids, ids.roll(-1, 1)) / ids.numel()
    loss.backward()
    optimizers.step(choose_precision("float32", CPU).scaler)
    return loss.item()


def flip(path: Path, place: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(bytes(data))


def test_everything_that_must_survive_does(parts: tuple[GPTModel, Optimizers], tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Weights, moments, random state and every field of the state: training goes on as if nothing had happened."""
    model, optimizers = parts
    for _ in range(3):
        train(model, optimizers)
    numbers = {f.name: i + 1 for i, f in enumerate(dataclasses.fields(TrainingState)) if f.name != "scaler"}
    scaler = {"scale": 8.0, "_growth_tracker": 2}
    state = TrainingState(**{**numbers, "step": 3, "best_val_loss": 1.25, "elapsed_seconds": 0.1, "scaler": scaler})
    folder = save_checkpoint(tmp_path, model, optimizers, state, tokenizer)
    expected = [train(model, optimizers) for _ in range(3)]

    torch.manual_seed(99)
    twin = GPTModel(model.config)
    twin_optimizers = Optimizers(twin, TrainingConfig(learning_rate=1e-2), CPU)
    assert restore_checkpoint(folder, twin, twin_optimizers) == state
    assert [train(twin, twin_optimizers) for _ in range(3)] == expected
    for (name, left), right in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(left, right), name
    assert load_tokenizer(folder).fingerprint == tokenizer.fingerprint


def test_seeding_reaches_every_source_of_chance() -> None:
    def draw() -> tuple[float, float, float]:
        return torch.rand(()).item(), float(np.random.rand()), random.random()

    seed_everything(5)
    first = draw()
    seed_everything(5)
    assert draw() == first
    seed_everything(6)
    assert not any(a == b for a, b in zip(draw(), first, strict=True))


def test_a_flipped_byte_in_any_file_is_found_and_the_checkpoint_before_it_taken(
    parts: tuple[GPTModel, Optimizers], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Every file of the newest checkpoint in turn, the manifest included, at its beginning, middle and end."""
    model, optimizers = parts
    train(model, optimizers)
    older = save_checkpoint(tmp_path, model, optimizers, TrainingState(step=5), tokenizer)
    newer = save_checkpoint(tmp_path, model, optimizers, TrainingState(step=10), tokenizer)
    files = sorted(file for file in newer.rglob("*") if file.is_file())
    names = {str(file.relative_to(newer)) for file in files}
    training = {f"training_state/{name}" for name in ("state.json", "optimizer.safetensors", "random.safetensors")}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json", "MANIFEST.json", *training}
    assert newest_sound_checkpoint(tmp_path) == (newer, [])
    for file in files:
        whole = file.read_bytes()
        for place in (0.0, 0.5, 0.999):
            flip(file, place)
            with pytest.raises(CheckpointError):
                check_manifest(newer)
            with pytest.raises(CheckpointError):
                restore_checkpoint(newer, model, optimizers)
            found, damaged = newest_sound_checkpoint(tmp_path)
            assert found == older, f"{file.name} at {place}"
            assert len(damaged) == 1 and str(newer) in damaged[0]
            file.write_bytes(whole)
    check_manifest(newer)


@pytest.mark.parametrize("name", ["model.safetensors", "MANIFEST.json", "training_state/optimizer.safetensors"])
@pytest.mark.parametrize("change", ["missing", "truncated"])
def test_a_missing_or_cut_file_is_named(
    parts: tuple[GPTModel, Optimizers], tokenizer: Tokenizer, tmp_path: Path, name: str, change: str
) -> None:
    model, optimizers = parts
    train(model, optimizers)
    folder = save_checkpoint(tmp_path, model, optimizers, TrainingState(step=1), tokenizer)
    if change == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes((folder / name).read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=name) as caught:
        restore_checkpoint(folder, model, optimizers)
    assert str(folder) in str(caught.value)
    assert newest_sound_checkpoint(tmp_path)[0] is None


def test_a_damaged_checkpoint_changes_nothing_in_the_model(
    parts: tuple[GPTModel, Optimizers], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Every file is checked before the first weight is put back."""
    model, optimizers = parts
    folder = save_checkpoint(tmp_path, model, optimizers, TrainingState(step=1), tokenizer)
    train(model, optimizers)
    weights = {name: tensor.clone() for name, tensor in model.exported_tensors().items()}
    flip(folder / "training_state" / "random.safetensors")
    with pytest.raises(CheckpointError, match=r"random\.safetensors does not match its manifest"):
        restore_checkpoint(folder, model, optimizers)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.exported_tensors().items())


def test_a_checkpoint_of_another_model_is_refused_with_both_values(
    parts: tuple[GPTModel, Optimizers], tiny_config: Callable[..., ModelConfig], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    folder = save_checkpoint(tmp_path, *parts, TrainingState(step=1), tokenizer)
    other = GPTModel(tiny_config(residual_dropout=0.2, n_layer=3))
    with pytest.raises(CheckpointError, match="n_layer is 3, was 2"):
        restore_checkpoint(folder, other, Optimizers(other, TrainingConfig(), CPU))


def test_pointers_name_the_newest_and_the_best(parts: tuple[GPTModel, Optimizers], tokenizer: Tokenizer, tmp_path: Path) -> None:
    """`best` stays where it is when a later checkpoint is worse; MODEL means the best one."""
    save_checkpoint(tmp_path, *parts, TrainingState(step=5, best_step=5), tokenizer)
    save_checkpoint(tmp_path, *parts, TrainingState(step=10, best_step=5), tokenizer)
    assert (tmp_path / "checkpoints" / "last").read_text() == "step-00000010\n"
    assert (tmp_path / "checkpoints" / "best").read_text() == "step-00000005\n"
    assert best_checkpoint(tmp_path) == checkpoint_folder(tmp_path, 5)


def test_pruning_keeps_the_newest_and_the_best_and_clears_what_a_kill_left(
    parts: tuple[GPTModel, Optimizers], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    for step in (1, 2, 3, 4, 5):
        save_checkpoint(tmp_path, *parts, TrainingState(step=step, best_step=2), tokenizer)
    half = tmp_path / "checkpoints" / ".incomplete-step-00000006-abcd"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    assert newest_sound_checkpoint(tmp_path)[0] == checkpoint_folder(tmp_path, 5)
    prune_checkpoints(tmp_path, keep=2, best_step=2)
    assert [folder.name for folder in step_folders(tmp_path)] == ["step-00000005", "step-00000004", "step-00000002"]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.startswith(".")) == []
    for folder in step_folders(tmp_path):
        check_manifest(folder)


def test_checkpoints_of_an_abandoned_future_are_set_aside_and_not_counted(
    parts: tuple[GPTModel, Optimizers], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """The run went back from step 9 to 5: 9 is neither resumed from nor kept instead of 5, and what it cost is not thrown away."""
    for step in (2, 5, 9):
        save_checkpoint(tmp_path, *parts, TrainingState(step=step), tokenizer)
    set_aside_after(tmp_path, 5)
    prune_checkpoints(tmp_path, keep=1, best_step=0)
    assert [folder.name for folder in step_folders(tmp_path)] == ["step-00000005"]
    assert newest_sound_checkpoint(tmp_path) == (checkpoint_folder(tmp_path, 5), [])
    check_manifest(tmp_path / "checkpoints" / "abandoned-step-00000009")


def test_a_run_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert newest_sound_checkpoint(tmp_path) == (None, [])
    with pytest.raises(CheckpointError, match=r"no finished checkpoint yet.*--resume auto"):
        best_checkpoint(tmp_path)
