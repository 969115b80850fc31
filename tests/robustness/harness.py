"""One tiny run, ways to interrupt it, and what "ends where an uninterrupted run ends" means.

The run has everything on that could tell a resumed run from a whole one: dropout, packed documents kept apart, five windows a batch in
micro-batches of two, 45 windows an epoch (so that a step ends exactly at the border of one), evaluations, samples, a schedule.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from gpt_kit.cli import main
from gpt_kit.data import open_corpus
from gpt_kit.files import INCOMPLETE, check_manifest, read_json
from gpt_kit.training import newest_sound_checkpoint, read_metrics

STEPS, STEPS_PER_EPOCH = 22, 9
EVALUATION_INTERVAL, SAVE_INTERVAL = 4, 5
SETTINGS: dict[str, object] = {
    "model.n-layer": 2, "model.n-embd": 24, "model.n-head": 3, "model.max-position-embeddings": 16, "data.document-mask": "",
    "training.max-steps": STEPS, "training.batch-size": 5, "training.micro-batch-size": 2, "training.warmup-steps": 3,
    "training.learning-rate": 0.01, "training.precision": "float32", "training.device": "cpu",
    "evaluation.interval": EVALUATION_INTERVAL, "evaluation.sample-tokens": 4, "evaluation.prompt": "sun ",
    "checkpoints.interval": SAVE_INTERVAL, "logging.interval": 1,
}  # fmt: skip
STATE_FILES = ("model.safetensors", "training_state/optimizer.safetensors", "training_state/random.safetensors")
TIMES = ("elapsed_seconds",)

# A server that has imported everything once; every child is forked from it and starts in milliseconds.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload([
    "gpt_kit.cli.train", "gpt_kit.cli.prepare", "gpt_kit.cli.pretraining", "gpt_kit.cli.runs", "harness", "deaths", "slowness",
    "safetensors.torch", "torch._dynamo", "matplotlib.figure", "matplotlib.backends.backend_agg",  # what a run imports while it runs
])  # fmt: skip


def make_corpus(folder: Path) -> Path:
    """Twelve documents of 60 tokens to train on, which is 45 windows of 16, and three to validate on."""
    words = "sun moon star rain snow wind tree leaf root bird fish bear".split()
    texts = [" ".join(words[(i + i * j + j * j) % 12] for j in range(16))[:59].ljust(59, ".") for i in range(15)]
    source = folder / "story.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    corpus = folder / "corpus"
    assert main(f"prepare {source} --out {corpus} --tokenizer byte --split contiguous --val-fraction 0.2".split()) == 0
    assert len(open_corpus(corpus).train) == 720
    return corpus


def train_words(corpus: Path, run: Path, **changes: object) -> list[str]:
    """The command that starts the run; `training__optimizer="muon"` changes a setting."""
    settings = SETTINGS | {name.replace("__", ".").replace("_", "-"): value for name, value in changes.items()}
    flags = [word for name, value in settings.items() for word in (f"--{name}", str(value)) if word]
    return ["train", "--data", str(corpus), "--out", str(run), *flags]


def resume_words(run: Path) -> list[str]:
    return ["train", "--out", str(run), "--resume", "auto"]


def start(words: list[str], log: Path, prepare: Callable[..., None] | None = None, *arguments: object) -> BaseProcess:
    """The command line in a child process that writes to `log`; `prepare(*arguments)`, of a module, is called there first."""
    process = processes.Process(target=_child, args=(words, log, prepare, arguments))
    process.start()
    return process


def _child(words: list[str], log: Path, prepare: Callable[..., None] | None, arguments: tuple[object, ...]) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    gc.freeze()  # what the server imported need not be looked through again in every child
    os.fsync = lambda _: None  # a death of the process asks nothing of the disk, and fsync may take long where others write
    if prepare is not None:
        prepare(*arguments)
    sys.exit(main(words))


def shell_code(process: BaseProcess) -> int:
    """The exit code as a shell shows it: 128 + the signal's number for a process that a signal ended."""
    code = process.exitcode
    assert code is not None, "it is still running"
    return code if code >= 0 else 128 - code


def assert_same_end(whole: Path, other: Path, steps: int = STEPS) -> None:
    """Weights, optimizer, random states, state, every logged figure and every sample are equal to the last bit, times apart."""
    assert_steps_counted_once(other, until=steps)
    for pointer in ("last", "best"):
        folders = [run / "checkpoints" / (run / "checkpoints" / pointer).read_text().strip() for run in (whole, other)]
        assert folders[0].name == folders[1].name, f"{pointer} names another step"
        check_manifest(folders[1])
        for name in STATE_FILES:
            assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), f"{pointer}: {name} differs"
        assert without_times(folders[0]) == without_times(folders[1]), f"{pointer}: state.json differs"
    assert figures(whole) == figures(other)
    assert (whole / "samples.md").read_text() == (other / "samples.md").read_text()
    left = [path.name for path in (other / "checkpoints").glob(".incomplete-*") if path.is_dir()]
    assert not left, f"something half-written was left behind: {left}"


def without_times(checkpoint: Path) -> dict[str, Any]:
    """state.json without what a clock decides."""
    state: dict[str, Any] = read_json(checkpoint / "training_state" / "state.json")
    return {name: value for name, value in state.items() if name not in TIMES}


def figures(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what a clock decides."""
    return [
        {name: value for name, value in record.items() if "second" not in name and "time" not in name}
        for record in read_metrics(run / "metrics.jsonl")
    ]


def assert_steps_counted_once(run: Path, *, until: int | None = STEPS) -> None:
    """The training losses in metrics.jsonl are those of steps 1, 2, 3 … (up to `until`), each once, and no evaluation is there twice."""
    records = read_metrics(run / "metrics.jsonl")
    steps = [record["step"] for record in records if "train/loss" in record]
    assert steps == list(range(1, (len(steps) if until is None else until) + 1))
    evaluated = [record["step"] for record in records if "val/loss" in record]
    assert len(set(evaluated)) == len(evaluated)


def unlike_one_another(runs: list[Path]) -> list[Path]:
    """One run of each kind: what is finished is equal to the last bit, and beside it lie left-overs of the same names."""
    kinds: dict[tuple[object, ...], Path] = {}
    for run in runs:
        files = sorted(path for path in run.rglob("*") if path.is_file() and path.name not in (".lock", "died", "error"))
        finished = tuple((str(path.relative_to(run)), path.read_bytes()) for path in files if INCOMPLETE not in str(path.relative_to(run)))
        left_over = tuple(sorted(path.name.rsplit("-", 1)[0] for path in run.rglob(f"{INCOMPLETE}*")))
        kinds.setdefault((finished, left_over), run)
    return list(kinds.values())


def sound_step(run: Path) -> int:
    """The step of the newest sound checkpoint, 0 for none."""
    folder, _ = newest_sound_checkpoint(run)
    return 0 if folder is None else int(folder.name.removeprefix("step-"))
