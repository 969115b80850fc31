"""What a run keeps from its first step to its last, what may change, and where it goes when nobody says so."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt_kit.config import load_run_config
from gpt_kit.data import open_corpus
from gpt_kit.training import points_of, read_metrics

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def started(run: Run, tmp_path: Path, text_file: Path, tiny_flags: list[str]) -> Path:
    """A run of four steps out of twelve."""
    folder = tmp_path / "started"
    assert run("train", "--data", text_file, "--out", folder, *tiny_flags, "--training.max-steps", "4")[0] == 0
    return folder


def refused(result: tuple[int, str, str], *parts: str) -> None:
    code, _, err = result
    assert code == 2 and err.count("\n") == 1, err
    for part in parts:
        assert part in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--training.batch-size", "4"], "training.batch_size is 4, was 5"),
        (["--training.seed", "1"], "training.seed is 1, was 1337"),
        (["--data.windows", "random"], "data.windows is 'random', was 'shuffled'"),
        (["--data.stride", "3"], "data.stride is 3, was 0"),
        (["--data.val-fraction", "0.2"], "data.val_fraction is 0.2, was 0.1"),
        (["--data.tokenizer", "byte"], "data.tokenizer is 'byte', was 'char'"),
        (["--model.n-layer", "3"], "n_layer is 3, was 2"),
        (["--model", "gpt2-small"], "n_embd is 768, was 24"),
    ],
)
def test_what_a_run_keeps_cannot_change_on_the_way(run: Run, started: Path, words: list[str], message: str) -> None:
    """Refused in words; nothing of the run is touched, and as it was it goes on."""
    before = (started / "config.toml").read_text()
    refused(run("train", "--out", started, "--resume", "auto", "--training.max-steps", "8", *words), message)
    assert (started / "config.toml").read_text() == before
    assert run("train", "--out", started, "--resume", "auto", "--training.max-steps", "8")[0] == 0
    assert len(points_of(read_metrics(started / "metrics.jsonl"), "train/loss")) == 8


def test_the_words_of_the_start_may_be_said_again(run: Run, started: Path, text_file: Path, tiny_flags: list[str]) -> None:
    words = ["train", "--data", text_file, "--out", started, "--model", "gpt2-small", *tiny_flags]
    code, out, err = run(*words, "--resume", "auto")
    assert code == 0, err
    assert "resumed from" in out


def test_what_does_not_touch_the_text_may_change(run: Run, started: Path) -> None:
    words = [
        "--training.learning-rate",
        "0.02",
        "--training.micro-batch-size",
        "3",
        "--evaluation.interval",
        "3",
        "--training.max-steps",
        "6",
    ]
    assert run("train", "--out", started, "--resume", "auto", *words)[0] == 0
    assert load_run_config(started / "config.toml").training.micro_batch_size == 3


def test_a_run_that_is_done_says_so_and_fewer_steps_are_refused(run: Run, started: Path) -> None:
    code, out, _ = run("train", "--out", started, "--resume", "auto")
    assert code == 0 and "step 4 of 4 is reached already; to go on, give a higher --training.max-steps" in out
    refused(run("train", "--out", started, "--resume", "auto", "--training.max-steps", "3"), "step 4 is past --training.max-steps 3")
    assert load_run_config(started / "config.toml").training.max_steps == 4


def test_a_corpus_may_move_but_not_change(run: Run, tmp_path: Path, text_file: Path, tiny_flags: list[str]) -> None:
    other = tmp_path / "other.txt"
    text = text_file.read_text()
    other.write_text(text[3000:] + text[:3000])
    for name, source in (("one", text_file), ("two", other)):
        assert run("prepare", source, "--out", tmp_path / name, "--tokenizer", "char")[0] == 0
    words = ["train", "--out", tmp_path / "run", *tiny_flags]
    assert run(*words, "--data", tmp_path / "one", "--training.max-steps", "4")[0] == 0
    shutil.move(tmp_path / "one", tmp_path / "moved")
    refused(run(*words, "--data", tmp_path / "two", "--resume", "auto"), "corpus is")
    assert run(*words, "--data", tmp_path / "moved", "--resume", "auto")[0] == 0


def test_a_start_that_failed_leaves_no_text_to_the_next_one(run: Run, tmp_path: Path, text_file: Path, tiny_flags: list[str]) -> None:
    """The first attempt prepares its text and then fails; the second one, on other text, must not train on the first's."""
    other = tmp_path / "other.txt"
    other.write_text("".join(random.Random(1).choices("xyz \n", k=5000)))
    words = ["train", "--out", tmp_path / "run", *tiny_flags]
    refused(run(*words, "--data", text_file, "--evaluation.stride", "17"), "stride")
    assert run(*words, "--data", other)[0] == 0
    assert open_corpus(tmp_path / "run" / "corpus").info["source"] == str(other)


def test_a_prepared_corpus_keeps_its_tokenizer(run: Run, tmp_path: Path, text_file: Path, tiny_flags: list[str]) -> None:
    assert run("prepare", text_file, "--out", tmp_path / "corpus", "--tokenizer", "byte")[0] == 0
    result = run("train", "--data", tmp_path / "corpus", "--out", tmp_path / "run", *tiny_flags)
    refused(result, "cut by tokenizer 'byte', but data.tokenizer is 'char'", "gpt-kit prepare")
    assert run("train", "--data", tmp_path / "corpus", "--out", tmp_path / "run", *tiny_flags, "--data.tokenizer", "byte")[0] == 0


def test_resuming_from_a_folder_that_is_not_there_never_asks_the_hub(run: Run, started: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpt_kit.locate._download", lambda name: pytest.fail(f"asked the hub for {name}"))
    refused(run("train", "--out", started, "--resume", "nope"), "--resume nope: there is no such folder")
    refused(run("train", "--resume", "auto"), "--resume needs the run's folder as well")


def test_without_out_the_run_is_named_after_the_file_or_the_text(
    run: Run, tmp_path: Path, text_file: Path, tiny_flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text("[logging]\ninterval = 1\n")
    for words, name in (([], "story"), ([], "story-2"), (["--config", "small.toml"], "small")):
        code, out, err = run("train", "--data", text_file, *tiny_flags, "--training.max-steps", "2", *words)
        assert code == 0, err
        assert f"gpt-kit generate runs/{name} " in out
        assert (tmp_path / "runs" / name / "checkpoints" / "last").is_file()


def test_a_narrower_model_gets_heads_that_fit(run: Run, tmp_path: Path, text_file: Path) -> None:
    words = ["--model", "gpt2-small", "--model.n-layer", "1", "--model.n-embd", "64", "--model.max-position-embeddings", "64"]
    more = ["--data.tokenizer", "byte", "--training.max-steps", "1", "--training.batch-size", "1", "--evaluation.sample-tokens", "0"]
    code, out, err = run("train", "--data", text_file, "--out", tmp_path / "run", *words, *more)
    assert code == 0, err
    assert "n_layer 1, n_embd 64, n_head 1" in out


def test_resume_auto_with_a_text_starts_where_there_is_nothing_yet(
    run: Run, text_file: Path, tiny_flags: list[str], tmp_path: Path
) -> None:
    """One command line for the start and for going on, as torchrun and schedulers give it; without a text it is a slip of the pen."""
    words = ["train", "--data", text_file, "--out", tmp_path / "run", "--resume", "auto", *tiny_flags]
    code, out, _ = run(*words, "--training.max-steps", 4)
    assert code == 0 and "resumed from" not in out
    code, out, _ = run(*words)
    assert code == 0 and "at step 4" in out
    code, _, err = run("train", "--out", tmp_path / "rum", "--resume", "auto")
    assert code == 2 and "nothing to resume" in err and not (tmp_path / "rum").exists()
