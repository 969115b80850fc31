"""Small local files with the columns of ARC, HellaSwag and SST-2 on the hub, a tiny model, and what lm-evaluation-harness says of it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpt_kit.config import ModelConfig
from gpt_kit.model import GPTModel
from gpt_kit.tokenizers import train_tokenizer

WORDS = "the a cat dog tree sun water moves under over quickly warm cold why which what does energy plant año naïve 水 .".split()
Rows = list[dict[str, Any]]


def sentence(rng: random.Random, least: int, most: int) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(least, most)))


def arc_row(rng: random.Random) -> dict[str, Any]:
    """Three to five answers, labelled by letters or numbers."""
    labels = rng.choice(["ABCD", "1234", "ABC", "ABCDE"])
    choices = {"text": [sentence(rng, 1, 6) for _ in labels], "label": list(labels)}
    return {"id": str(rng.random()), "question": sentence(rng, 3, 20) + "?", "choices": choices, "answerKey": rng.choice(labels)}


def hellaswag_row(rng: random.Random) -> dict[str, Any]:
    """Marks in brackets, double spaces, spaces at the end: what the cleaning is for."""
    ctx_a, ctx_b = sentence(rng, 4, 20) + rng.choice([".", " [step] ", " [title] How"]), sentence(rng, 0, 5) + rng.choice(["", " "])
    endings = [rng.choice(["", "[substeps] "]) + sentence(rng, 2, 12) + rng.choice([".", "  [title] So"]) for _ in range(4)]
    return {"ind": 3, "activity_label": sentence(rng, 1, 2), "ctx_a": ctx_a, "ctx_b": ctx_b, "ctx": f"{ctx_a} {ctx_b}",
            "endings": endings, "label": str(rng.randrange(4))}  # fmt: skip


def sst2_row(rng: random.Random) -> dict[str, Any]:
    return {"sentence": sentence(rng, 1, 20) + " ", "label": rng.randrange(2), "idx": 1}


ROW = {"arc_easy": arc_row, "arc_challenge": arc_row, "hellaswag": hellaswag_row, "sst2": sst2_row}


@pytest.fixture(scope="session")
def task_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """Task -> the files of its 40 questions ("eval") and of 25 examples ("train"), one of them twice."""
    files: dict[str, dict[str, Path]] = {}
    for seed, (task, row) in enumerate(ROW.items()):
        rng = random.Random(seed)
        rows = [row(rng) for _ in range(65)]
        rows[1] = rows[0]
        files[task] = {}
        for name, part in (("eval", rows[:40]), ("train", [*rows[40:], rows[7], rows[7]])):
            files[task][name] = tmp_path_factory.mktemp("rows") / f"{task}-{name}.jsonl"
            files[task][name].write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    return files


@pytest.fixture(scope="session")
def model_folder(
    tmp_path_factory: pytest.TempPathFactory, random_model: Callable[..., GPTModel], tiny_config: Callable[..., ModelConfig]
) -> Path:
    """A GPT-2 shape with a context of 64, too short for the longest questions, and a byte-pair tokenizer of 400 entries."""
    rng = random.Random(9)
    tokenizer = train_tokenizer("bpe", [" ".join(rng.choices(WORDS, k=9)) for _ in range(99)], vocab_size=400)
    model = random_model(tiny_config(vocab_size=tokenizer.vocab_size, max_position_embeddings=64))
    folder = tmp_path_factory.mktemp("model") / "tiny"
    model.save_pretrained(folder, end_of_text_id=tokenizer.end_of_text_id)
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="session")
def task_yamls(task_files: dict[str, dict[str, Path]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Task -> the harness's own definition, on the local files instead of the hub."""
    lm_eval = pytest.importorskip("lm_eval")
    places = {
        "arc_easy": "arc/arc_easy",
        "arc_challenge": "arc/arc_challenge",
        "hellaswag": "hellaswag/hellaswag",
        "sst2": "glue/sst2/default",
    }
    folder = tmp_path_factory.mktemp("yamls")
    for task, files in task_files.items():
        parts = {"train": str(files["train"]), "validation": str(files["eval"]), "test": str(files["eval"])}
        changes = {"task": task, "dataset_path": "json", "dataset_name": None,
                   "dataset_kwargs": {"data_files": parts, "cache_dir": str(folder)}}  # fmt: skip
        lines = [
            f"include: {Path(lm_eval.__file__).parent}/tasks/{places[task]}.yaml",
            *(f"{key}: {json.dumps(value)}" for key, value in changes.items()),
        ]  # JSON is YAML
        (folder / f"{task}.yaml").write_text("\n".join(lines))
    return {task: folder / f"{task}.yaml" for task in task_files}


@pytest.fixture(scope="session")
def harness(model_folder: Path) -> Callable[..., dict[str, Any]]:
    """lm-evaluation-harness with its own `hf` model, in float32: everything it says, samples included."""
    lm_eval = pytest.importorskip("lm_eval")

    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    hf = HFLM(pretrained=str(model_folder), dtype="float32", device="cpu", batch_size=8)
    files_alone = TaskManager(include_defaults=False)  # not the thousands that come with it

    def evaluate(task: Path, model: object = hf, **options: Any) -> dict[str, Any]:
        result: dict[str, Any] = lm_eval.simple_evaluate(model=model, tasks=[str(task)], task_manager=files_alone, **options)
        return result

    return evaluate
