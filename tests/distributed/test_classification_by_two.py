"""Two processes learn labels as one does: the losses of both heads, the accuracy, and the weights."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from distributed_runs import figures, finish, largest_difference, torchrun

from gpt_kit.cli import main
from gpt_kit.config import create_model_config
from gpt_kit.files import read_tensors
from gpt_kit.model import GPTModel
from gpt_kit.tokenizers import load_tokenizer

STILL = ["--classify.inner-dropout=0", "--classify.dropout=0"]  # each process has masks of its own
SETTINGS = [
    "--training.batch-size=5", "--training.micro-batch-size=2", "--training.max-steps=8", "--training.precision=float32",
    "--training.device=cpu", "--training.learning-rate=0.003", "--evaluation.interval=4", "--logging.interval=1",
    "--classify.class-weights", "3", "1", "--training.rank-timeout-seconds=60", *STILL,
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_have_the_figures_of_one(kind: str, tmp_path: Path) -> None:
    """Texts of 2 to 20 tokens, five to a batch: each process weighs what it has by counts that both share."""
    torch.manual_seed(0)
    base, rng = tmp_path / "base", random.Random(0)
    GPTModel(create_model_config("gpt2", n_layer=2, n_embd=24, n_head=3, vocab_size=257, max_position_embeddings=24)).save_pretrained(base)
    load_tokenizer("byte").save(base)
    rows = [("".join(rng.choices("abcd", k=rng.randint(2, 20))), rng.randint(0, 1)) for _ in range(40)]
    (tmp_path / "texts.tsv").write_text("".join(f"{text}\t{label}\n" for text, label in rows), encoding="utf-8")
    words = ["--model", base, "--data", tmp_path / "texts.tsv", *SETTINGS]
    assert main(["finetune", "classify", "--out", str(tmp_path / "one"), *map(str, words)]) == 0
    code, said = finish(torchrun(["--out", tmp_path / "two", f"--training.parallel={kind}", *words], verb="finetune classify"))
    assert code == 0, said
    assert said.count("matrix ") == 1, "the main process alone measures and speaks"
    assert largest_difference(figures(tmp_path / "one"), figures(tmp_path / "two")) < 1e-5
    one, two = (read_tensors(tmp_path / run / "checkpoints" / "step-00000008" / "model.safetensors") for run in ("one", "two"))
    assert one.keys() == two.keys() and "score.weight" in one
    for name in one:
        if not name.endswith("c_attn.bias"):  # the keys' biases have no gradient but rounding
            torch.testing.assert_close(two[name], one[name], atol=1e-4, rtol=1e-3, msg=name)
