"""Rows become questions: from the hub through `datasets`, or from local files with the same columns; a bad row is named."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpt_kit.errors import DataError
from gpt_kit.evaluation.questions import QUESTION_TASKS, Question, questions_of
from gpt_kit.evaluation.rows import read_rows

Files = dict[str, dict[str, Path]]
ARC = {"question": "Which?", "choices": {"text": ["one", "two", "three"], "label": ["1", "2", "3"]}, "answerKey": "2"}


def ask(task: str, file: Path, **options: Any) -> list[Question]:
    return list(questions_of(QUESTION_TASKS[task], read_rows(str(file), QUESTION_TASKS[task].dataset), **options))


def written(folder: Path, *rows: object) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_prompts_are_those_of_the_harness(tmp_path: Path) -> None:
    assert ask("arc_challenge", written(tmp_path, ARC)) == [Question("Question: Which?\nAnswer:", ("one", "two", "three"), 1)]
    row = {
        "activity_label": "Baking", "ctx_a": " Mix [step] flour.", "ctx_b": "the COOK",
        "endings": ["[substeps] stirs.  It", "bakes [title] Next", "a", "b"], "label": "1",
    }  # fmt: skip
    (question,) = ask("hellaswag", written(tmp_path, row))
    assert question == Question("Baking: Mix flour. The cook", (" stirs. It", "bakes. Next", "a", "b"), 1)
    (question,) = ask("sst2", written(tmp_path, {"sentence": "fine", "label": 1}))
    assert question.answered == "fine\nQuestion: Is this sentence positive or negative?\nAnswer: positive"


def test_the_hub_is_asked_for_the_right_rows(task_files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` really loads them, from local files that stand in for the repositories."""
    datasets = pytest.importorskip("datasets")
    real, asked = datasets.load_dataset, []

    def load_dataset(repository: str, config: str | None = None, *, split: str, streaming: bool) -> object:
        asked.append((repository, config, split, streaming))
        task = {"allenai/ai2_arc": "arc_easy", "Rowan/hellaswag": "hellaswag", "nyu-mll/glue": "sst2"}[repository]
        file = task_files[task]["train" if split == "train" else "eval"]
        return real("json", data_files=str(file), split="train", cache_dir=str(tmp_path))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for task in ("arc_easy", "hellaswag", "sst2"):
        rows = read_rows("", QUESTION_TASKS[task].dataset)
        examples = read_rows("", QUESTION_TASKS[task].examples)
        found = list(questions_of(QUESTION_TASKS[task], rows, examples, 2))
        local_examples = read_rows(str(task_files[task]["train"]), QUESTION_TASKS[task].examples)
        assert found == ask(task, task_files[task]["eval"], examples=local_examples, num_fewshot=2)
        assert len(rows.sha256) == 64 and rows.sha256 != examples.sha256
    assert asked == [
        ("allenai/ai2_arc", "ARC-Easy", "test", False), ("allenai/ai2_arc", "ARC-Easy", "train", False),
        ("Rowan/hellaswag", None, "validation", False), ("Rowan/hellaswag", None, "train", False),
        ("nyu-mll/glue", "sst2", "validation", False), ("nyu-mll/glue", "sst2", "train", False),
    ]  # fmt: skip
    assert rows.name == "nyu-mll/glue:sst2:validation"


@pytest.mark.parametrize("kind", ["json", "parquet", "jsonl.gz"])
def test_files_of_every_kind_hold_the_same_questions(kind: str, task_files: Files, tmp_path: Path) -> None:
    file, lines = tmp_path / f"rows.{kind}", task_files["arc_easy"]["eval"].read_text()
    rows = [json.loads(line) for line in lines.splitlines()]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif kind == "json":
        file.write_text(json.dumps(rows))
    else:
        file.write_bytes(gzip.compress(lines.encode()))
    assert ask("arc_easy", file) == ask("arc_easy", task_files["arc_easy"]["eval"])
    assert read_rows(str(file), QUESTION_TASKS["arc_easy"].dataset).sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_labelled_sentences_are_questions_too(data_folder: Path) -> None:
    questions = ask("sst2", data_folder / "sst2" / "dev.tsv")
    assert len(questions) == 872
    assert questions[0].context.startswith("one long string of cliches\n") and questions[0].answer == 0


def test_an_example_is_never_the_question_itself(tmp_path: Path) -> None:
    rows = [{"sentence": f"s{number}", "label": 1} for number in range(4)]
    file = written(tmp_path, *rows, rows[2])
    pool = read_rows(str(file), QUESTION_TASKS["sst2"].examples)
    for question in ask("sst2", file, examples=pool, num_fewshot=3):
        *examples, asked = [part.split("\n")[0] for part in question.context.split("\n\n")]
        assert len(examples) == 3 and asked not in examples


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("arc_easy", {"questions": "Which?"}, r"rows.jsonl:1: there is no column 'choices'; columns here: 'questions'"),
        ("arc_easy", {**ARC, "answerKey": "7"}, r"rows.jsonl:1: this row is no question with an answer \('7' is not in list\)"),
        ("arc_easy", [1], "rows.jsonl:1: expected an object with a value for each column, got list"),
        ("sst2", {"sentence": "x", "label": -1}, "rows.jsonl:1: the right answer is number -1 of 2; test sets often have none"),
        ("sst2", {"sentence": "x", "label": None}, "rows.jsonl:1: this row is no question"),
        ("sst2", {"sentences": "x", "label": 1}, r"no column 'sentence' \(did you mean 'sentences'\?\)"),
    ],
)
def test_a_row_that_asks_nothing_is_named(task: str, row: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        ask(task, written(tmp_path, row))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", '{"question": ', r"rows.jsonl:1: not valid JSON"),
        ("rows.txt", "Which?", r"is none of the kinds that hold rows. Rows are read from .jsonl, .json, .parquet, .tsv, .csv"),
        ("rows.parquet", "Which?", "damaged or not a parquet file"),
    ],
)
def test_a_file_that_holds_no_rows_is_refused(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        ask("arc_easy", tmp_path / name)
    with pytest.raises(DataError, match="there is no such file"):
        ask("arc_easy", tmp_path / "nothere.jsonl")


def test_too_few_examples_are_refused(task_files: Files) -> None:
    pool = read_rows(str(task_files["sst2"]["train"]), QUESTION_TASKS["sst2"].examples)
    draw: Callable[..., list[Question]] = ask
    with pytest.raises(DataError, match="27 rows of examples are too few to draw 27 from"):
        draw("sst2", task_files["sst2"]["eval"], examples=pool, num_fewshot=27)
