"""`gpt-kit eval`: figures printed and kept, one line each, with what is needed to have them again."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpt_kit.config import ModelConfig
from gpt_kit.evaluation import lm_eval_tasks
from gpt_kit.evaluation.records import weights_sha256
from gpt_kit.model import GPTModel
from gpt_kit.tokenizers import load_tokenizer

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
        (["--tasks", "perplexity", "--data", "nothere.txt"], "nothere.txt: there is no such file"),
        (["--tasks", "perplexity", "--stride", "17", "--data"], "the stride is 17 tokens; expected 1 to 16"),
        (["--tasks", "perplexity,perplexity", "--data"], "of several tasks"),
        (["--tasks", "perplexity", "--batch-tokens", "0"], "--batch-tokens must be 1 or more; got 0"),
        (["--tasks", "perplexity", "--precision", "double"], "unknown precision 'double'"),
        (["--tasks", ","], "no task"),
    ],
)
def test_a_mistake_is_one_line(run: Run, finished_run: Path, text_file: Path, words: list[str], message: str) -> None:
    code, out, err = run("eval", finished_run, *words, *([text_file] if words[-1] == "--data" else []))
    assert code == 2 and out == "" and err.count("\n") == 1 and message.lower() in err.lower()


def test_an_unknown_task_is_refused_before_any_is_begun(
    run: Run, finished_run: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lm_eval")
    monkeypatch.setattr(lm_eval_tasks, "_every_task", lambda: SimpleNamespace(all_tasks=["olaph_perplexity", "piqa"]))
    code, out, err = run("eval", finished_run, "--tasks", "perplexity,perplexty", "--data", f"perplexity={text_file}")
    assert (code, out) == (2, "") and "unknown task 'perplexty' (did you mean 'perplexity'?)" in err


def test_the_hash_of_several_weight_files_is_that_of_their_list(tmp_path: Path) -> None:
    assert weights_sha256(tmp_path) == ""
    for number in (2, 1):
        (tmp_path / f"model-0000{number}-of-00002.safetensors").write_bytes(bytes([number]))
    listed = "".join(f"{hashlib.sha256(bytes([n])).hexdigest()}  model-0000{n}-of-00002.safetensors\n" for n in (1, 2))
    assert weights_sha256(tmp_path) == hashlib.sha256(listed.encode()).hexdigest()


@pytest.fixture
def byte_model(tmp_path: Path, tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> Path:
    """A folder of a model that can spell anything."""
    tokenizer = load_tokenizer("byte")
    model = random_model(tiny_config(vocab_size=tokenizer.vocab_size, max_position_embeddings=99))
    model.save_pretrained(tmp_path / "model", end_of_text_id=tokenizer.end_of_text_id)
    tokenizer.save(tmp_path / "model")
    return tmp_path / "model"


def test_questions_from_local_files(run: Run, byte_model: Path, tmp_path: Path) -> None:
    """Each task with a file of its own; what does not fit into the context is said."""
    arc, sst2, out = tmp_path / "arc.jsonl", tmp_path / "sst2.tsv", tmp_path / "out.jsonl"
    row = {"question": "the cat", "choices": {"text": ["ran", "sat on a tree"], "label": ["A", "B"]}, "answerKey": "A"}
    arc.write_text((json.dumps(row) + "\n") * 3)
    sst2.write_text(f"{'the dog was big ' * 5}\t1\nit ran\t0\n")
    files = [word for name, file in (("arc_easy", arc), ("sst2", sst2)) for word in ("--data", f"{name}={file}")]
    code, printed, err = run("eval", byte_model, "--tasks", "arc_easy,sst2", *files, "--out", out)
    assert (code, err) == (0, "")
    assert [(record["task"], record["metric"], record["count"]) for record in lines(out)] == [
        ("arc_easy", "acc", 3), ("arc_easy", "acc_norm", 3), ("sst2", "acc", 2),
    ]  # fmt: skip
    assert "note: 2 answers were scored after the end of their question only" in printed
    assert lines(out)[0]["stderr"] == 0.0 and lines(out)[2]["data"] == str(sst2)


def test_examples_come_before_each_question(run: Run, byte_model: Path, tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    rows.write_text("".join(json.dumps({"sentence": f"s{number}", "label": number % 2}) + "\n" for number in range(5)))
    flags = ("--tasks", "sst2", "--data", rows, "--num-fewshot", 1, "--out", out)
    assert run("eval", byte_model, *flags, "--fewshot-data", rows)[0] == 0
    assert lines(out)[0]["num_fewshot"] == 1
    code, _, err = run("eval", byte_model, *flags, "--fewshot-data", "nothere.jsonl")
    assert code == 2 and "nothere.jsonl: there is no such file" in err


def test_a_task_of_ones_own_is_a_yaml_file(run: Run, byte_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    rows, task, out = tmp_path / "rows.jsonl", tmp_path / "mine.yaml", tmp_path / "out.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("a cat", "the dog")))
    keys = {"task": "mine", "dataset_path": "json", "test_split": "test", "output_type": "loglikelihood_rolling", "doc_to_text": "",
            "doc_to_target": "{{text}}", "dataset_kwargs": {"data_files": {"test": str(rows)}, "cache_dir": str(tmp_path)}}  # fmt: skip
    task.write_text("\n".join(f"{key}: {json.dumps(value)}" for key, value in keys.items()))
    code, printed, _ = run("eval", byte_model, "--tasks", f"{task},perplexity", "--data", f"perplexity={rows}", "--out", out)
    assert code == 0 and "mine" in printed
    values = {(record["task"], record["metric"]): record["value"] for record in lines(out)}
    assert values["mine", "bits_per_byte"] == pytest.approx(values["perplexity", "bits_per_byte"], rel=1e-6)
