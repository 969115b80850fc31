"""What a command says about its result is true, and what it proposes next works."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpt_kit.cli import quickstart
from gpt_kit.config import load_run_config
from gpt_kit.data import open_corpus
from gpt_kit.model import GPTModel
from gpt_kit.tokenizers import load_tokenizer

Run = Callable[..., tuple[int, str, str]]


def next_words(out: str) -> list[str]:
    """The command after 'next', without the program's name."""
    (line,) = [line for line in out.splitlines() if line.startswith("next ")]
    return shlex.split(line.removeprefix("next"))[1:]


@pytest.mark.parametrize(("characters", "context"), [(40, 32), (600, 512), (1139, 1024), (1138, 512)])
def test_preparing_proposes_a_context_that_the_text_fills(run: Run, tmp_path: Path, characters: int, context: int) -> None:
    """`val_fraction` 0.1: 36, 540, 1025 and 1024 tokens to train on; one window of gpt2-small needs 1025."""
    (tmp_path / "text.txt").write_text("abcd" * (characters // 4) + "d" * (characters % 4))
    code, out, _ = run("prepare", tmp_path / "text.txt", "--out", tmp_path / "a corpus", "--tokenizer", "char")
    words = next_words(out)
    assert code == 0 and words[:5] == ["train", "--data", f"{tmp_path}/a corpus", "--model", "gpt2-small"]
    assert words[7:] == ([] if context == 1024 else ["--model.max-position-embeddings", str(context)])


def test_the_proposed_training_works(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("abcd" * 10)
    _, out, _ = run("prepare", "text.txt", "--out", "a corpus", "--tokenizer", "char")
    smaller = ["--model.n-layer", "1", "--model.n-embd", "24", "--training.max-steps", "2", "--training.batch-size", "2"]
    code, _, err = run(*next_words(out), *smaller)
    assert code == 0, err


def test_a_pattern_in_quotes_is_a_source_and_one_without_is_explained(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("texts/a.txt", "texts/b.txt", "texts/c.csv", "texts/d.html", "texts/e.csv"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("some words\n" * 20)
    code, out, _ = run("prepare", "texts/*.txt", "--out", "pattern", "--tokenizer", "byte")
    assert code == 0 and "skipped" not in out and open_corpus(Path("pattern")).info["read"]["documents"] == 2
    code, out, _ = run("prepare", "texts", "--out", "folder", "--tokenizer", "byte")
    assert code == 0 and "note: skipped 3 files of kinds that are not read: .csv 2, .html 1\n" in out
    code, _, err = run("prepare", *sorted(Path().glob("texts/*.txt")), "--out", "several", "--tokenizer", "byte")
    assert code == 2 and "2 sources (texts/a.txt, texts/b.txt), but a corpus is made of one" in err and "'texts/*.txt'" in err


def test_preparing_says_where_bpe_ran_out_of_pairs(run: Run, tmp_path: Path, text_file: Path) -> None:
    (tmp_path / "short.txt").write_text("hello world, hello there")
    _, out, _ = run("prepare", tmp_path / "short.txt", "--out", tmp_path / "short", "--tokenizer", "bpe")
    entries = open_corpus(tmp_path / "short").tokenizer.vocab_size
    assert f"{entries:,} entries instead of 4,096" in out
    _, out, _ = run("prepare", text_file, "--out", tmp_path / "long", "--tokenizer", "bpe", "--vocab-size", "270")
    assert "270 entries" in out and "instead of" not in out


def test_a_contiguous_split_does_not_promise_what_only_documents_keep(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [json.dumps({"text": f"story number {i // 2} of many"}) for i in range(60)]
    (tmp_path / "stories.jsonl").write_text("\n".join(lines))
    flags = ["--tokenizer", "byte", "--split", "contiguous"]
    _, out, _ = run("prepare", tmp_path / "stories.jsonl", "--out", tmp_path / "corpus", *flags)
    assert "equal ones stand on the same side" not in out

    from gpt_kit import data

    near = {"documents_checked": 4, "documents_near_training": 2, "example": {"text": "story"}}

    def with_count(*arguments: object) -> object:
        corpus = data.prepare.prepare_corpus(*arguments)
        return dataclasses.replace(corpus, info={**corpus.info, "val_documents_seen_in_training": 7, "near_duplicates": near})

    monkeypatch.setattr(data, "prepare_corpus", with_count)
    _, out, _ = run("prepare", tmp_path / "stories.jsonl", "--out", tmp_path / "again", *flags)
    assert "7 validation documents also occur in the training text" in out
    assert "2 of the 4 validation documents long enough to compare (of " in out


def test_importing_proposes_to_generate_only_with_a_tokenizer(run: Run, finished_run: Path, tmp_path: Path) -> None:
    _, out, _ = run("import", finished_run, tmp_path / "with one")
    assert next_words(out) == ["generate", f"{tmp_path}/with one", "--prompt", "…"]
    GPTModel.from_pretrained(finished_run).save_pretrained(tmp_path / "bare")
    _, out, _ = run("import", tmp_path / "bare", tmp_path / "without")
    assert f"next    copy the model's tokenizer (tokenizer.json, or vocab.json and merges.txt) into {tmp_path}/without; then gpt-kit" in out
    load_tokenizer(finished_run).save(tmp_path / "without")
    code, _, err = run("generate", tmp_path / "without", "--prompt", "the", "--max-new-tokens", "2")
    assert code == 0, err


@pytest.mark.parametrize(("interval", "evaluating"), [(4, 0.1), (40, 600 / (2.5 * 40 * 5 * 16))])
def test_quickstart_leaves_time_for_the_evaluations(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch, interval: int, evaluating: float
) -> None:
    """With a clock that gives every step a second. 600 tokens to validate: at times `time_share` limits them, at times the text does."""
    clock = itertools.count()
    monkeypatch.setattr(quickstart, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    config = load_run_config(finished_run / "config.toml")
    config = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, interval=interval))
    corpus = open_corpus(finished_run / "corpus")
    assert quickstart._affordable_steps(config, corpus, 1000) == int(1000 / (1 + evaluating))
    assert quickstart._affordable_steps(config, corpus, 5) == 100
