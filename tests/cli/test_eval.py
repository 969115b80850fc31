"""`gpt-kit eval`: figures printed and kept, one line each, with what is needed to have them again."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt_kit.evaluation.records import weights_sha256

Run = Callable[..., tuple[int, str, str]]
KEYS = ["task", "metric", "value", "stderr", "count", "unit", "num_fewshot", "settings", "model", "model_sha256", "data", "data_sha256",
        "command", "at", "gpt_kit"]  # fmt: skip


@pytest.fixture
def own_run(finished_run: Path, tmp_path: Path) -> Path:
    """A run that may be written to."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_perplexity_of_a_run_is_printed_and_kept_beside_it(run: Run, own_run: Path, text_file: Path) -> None:
    code, out, err = run("eval", own_run, "--tasks", "perplexity", "--data", text_file, "--stride", "4", "--limit", "20")
    assert (code, err) == (0, "")
    records = lines(own_run / "evaluations.jsonl")
    assert [record["metric"] for record in records] == ["perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte"]
    for record in records:
        assert list(record) == KEYS
        assert f"{record['value']:.4f}" in out and record["stderr"] > 0 and record["count"] > 0
        assert record["data_sha256"] == hashlib.sha256(text_file.read_bytes()).hexdigest()
        assert record["settings"] == {"stride": 4, "context": 16, "limit": 20, "precision": "float32"}
    checkpoint = Path(records[0]["model"])
    assert checkpoint.parent == own_run / "checkpoints"
    assert records[0]["model_sha256"] == hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()


def test_the_recorded_command_gives_the_same_figures_again(run: Run, own_run: Path, text_file: Path) -> None:
    run("eval", own_run / "checkpoints", "--tasks=perplexity", f"--data={text_file}", "--limit=5")
    (again, *words) = lines(own_run / "evaluations.jsonl")[0]["command"].split()
    assert again == "gpt-kit"
    assert run(*words)[0] == 0
    found = lines(own_run / "evaluations.jsonl")
    assert [record["value"] for record in found[:4]] == [record["value"] for record in found[4:]]


def test_figures_of_any_model_go_into_a_file_of_choice(run: Run, finished_run: Path, text_file: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(next((finished_run / "checkpoints").glob("step-*")), tmp_path / "model"))
    assert run("eval", folder, "--tasks", "perplexity", "--data", text_file, "--limit", "3")[0] == 0
    assert not list(tmp_path.rglob("evaluations.jsonl")), "this model is no run, and no file was named"
    out = tmp_path / "new" / "figures.jsonl"
    out.parent.mkdir()
    out.write_text('{"task": "cut o')  # a kill left half a line
    assert run("eval", folder, "--tasks", "perplexity", "--data", f"perplexity={text_file}", "--limit", "3", "--out", out)[0] == 0
    assert len(out.read_text().splitlines()) == 5 and json.loads(out.read_text().splitlines()[1])["metric"] == "perplexity"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tasks", "perplexity"], "perplexity of which text? Name it: --data FILE"),
        (["--tasks", "perplexty"], "did you mean 'perplexity'?"),
        (["--tasks", "perplexity", "--data", "nothere.txt"], "nothere.txt: there is no such file"),
        (["--tasks", "perplexity", "--stride", "17", "--data"], "the stride is 17 tokens; expected 1 to 16"),
        (["--tasks", "perplexity,perplexity", "--data"], "of several tasks"),
        (["--tasks", "perplexity", "--batch-tokens", "0"], "--batch-tokens 1 or more; got 0 and 0"),
        (["--tasks", "perplexity", "--precision", "double"], "unknown precision 'double'"),
        (["--tasks", ","], "no task"),
    ],
)
def test_a_mistake_is_one_line(run: Run, finished_run: Path, text_file: Path, words: list[str], message: str) -> None:
    code, out, err = run("eval", finished_run, *words, *([text_file] if words[-1] == "--data" else []))
    assert code == 2 and out == "" and err.count("\n") == 1 and message.lower() in err.lower()


def test_the_hash_of_several_weight_files_is_that_of_their_list(tmp_path: Path) -> None:
    assert weights_sha256(tmp_path) == ""
    for number in (2, 1):
        (tmp_path / f"model-0000{number}-of-00002.safetensors").write_bytes(bytes([number]))
    listed = "".join(f"{hashlib.sha256(bytes([n])).hexdigest()}  model-0000{n}-of-00002.safetensors\n" for n in (1, 2))
    assert weights_sha256(tmp_path) == hashlib.sha256(listed.encode()).hexdigest()
