"""An adapter is a MODEL for every command; `merge` makes one model of it and its base, and leaves both as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gpt_kit.config import LoraConfig
from gpt_kit.files import check_manifest, sha256_of_file
from gpt_kit.finetuning import AdapterFiles, add_lora
from gpt_kit.locate import best_checkpoint
from gpt_kit.model import GPTModel
from gpt_kit.tokenizers import load_tokenizer

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lora_run(finished_run: Path, tmp_path: Path) -> tuple[Path, GPTModel]:
    """A run whose one checkpoint is an adapter for the finished run, and the model, not merged."""
    base = best_checkpoint(finished_run)
    lora = LoraConfig(rank=2, targets=("qkv", "contract", "token_embedding"))
    model = GPTModel.from_pretrained(base)
    add_lora(model, lora)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0.0, 0.1)
    folder = tmp_path / "lora" / "checkpoints" / "step-00000007"
    folder.mkdir(parents=True)
    files = AdapterFiles(lora, base)
    files.write(folder, model, files.tensors(model), None)
    load_tokenizer(base).save(folder)
    return tmp_path / "lora", model


def hashes(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): sha256_of_file(file) for file in folder.rglob("*") if file.is_file()}


def test_merge_writes_a_model_of_its_own_with_the_same_logits(
    run: Run, lora_run: tuple[Path, GPTModel], finished_run: Path, tmp_path: Path
) -> None:
    folder, model = lora_run
    before = hashes(folder), hashes(finished_run)
    code, out, err = run("merge", folder, tmp_path / "merged")
    assert (code, err) == (0, "")
    assert f"merged into {best_checkpoint(finished_run)}" in " ".join(out.split())
    assert (hashes(folder), hashes(finished_run)) == before
    check_manifest(tmp_path / "merged")
    merged = GPTModel.from_pretrained(tmp_path / "merged")
    ids = torch.tensor([load_tokenizer(tmp_path / "merged").encode("the cat sat")])
    torch.testing.assert_close(merged(ids), model(ids), rtol=0, atol=1e-5)
    assert not torch.allclose(merged(ids), GPTModel.from_pretrained(finished_run)(ids), atol=1e-2)
    assert merged.head is None


def test_every_command_takes_an_adapter_as_a_model(run: Run, lora_run: tuple[Path, GPTModel], tmp_path: Path) -> None:
    folder, _ = lora_run
    assert run("merge", folder, tmp_path / "merged")[0] == 0
    words = ("--prompt", "the cat", "--max-new-tokens", "9", "--temperature", "0")
    code, text, _ = run("generate", folder, *words)
    assert code == 0 and text == run("generate", tmp_path / "merged", *words)[1]
    code, out, err = run("info", folder)
    assert (code, err) == (0, "")
    assert "LoRA" in out and "of rank 2, alpha 16, in 5 layers of" in " ".join(out.split())
    code, out, _ = run("doctor", folder)
    assert "model: opens" in out and "✗ model" not in out


def test_what_cannot_be_merged_is_refused(run: Run, lora_run: tuple[Path, GPTModel], finished_run: Path, tmp_path: Path) -> None:
    folder, _ = lora_run
    code, _, err = run("merge", finished_run, tmp_path / "merged")
    assert code == 2 and "no adapter to merge" in err
    code, _, err = run("merge", folder, finished_run)
    assert code == 2 and "already exists" in err
    assert not (tmp_path / "merged").exists()
