"""How the tests start two processes over gloo, and compare what they made."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from gpt_kit.training import read_metrics

WORKER = Path(__file__).with_name("worker.py")
STEPS = 12
SETTINGS = {
    "data.tokenizer": "char", "model.n-layer": 2, "model.n-embd": 24, "model.n-head": 3, "model.max-position-embeddings": 16,
    "training.max-steps": STEPS, "training.batch-size": 5, "training.micro-batch-size": 2, "training.warmup-steps": 3,
    "training.learning-rate": 0.01, "training.precision": "float32", "training.device": "cpu", "evaluation.interval": 4,
    "evaluation.sample-tokens": 3, "checkpoints.interval": 4, "checkpoints.keep": 9, "logging.interval": 1,
    "training.rank-timeout-seconds": 60,
}  # fmt: skip
NO_DROPOUT = [f"--model.{place}-dropout=0" for place in ("embedding", "attention", "residual")]  # each process has masks of its own
FLAGS = [*(f"--{name}={value}" for name, value in SETTINGS.items()), *NO_DROPOUT]


def torchrun(words: list[Any], *, verb: str = "train", restarts: int = 0, **environment: Any) -> subprocess.Popen[str]:
    """Two processes of `gpt_kit VERB WORDS`, started by torchrun."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", f"--max-restarts={restarts}"]
    return start([*launcher, str(WORKER), *verb.split(), *words], environment)


def two_processes(words: list[Any], **environment: Any) -> list[subprocess.Popen[str]]:
    """The same without torchrun, so that nobody ends one process when the other is lost."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    world = {"WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    return [start([str(WORKER), "train", *words], {**world, "RANK": rank, "LOCAL_RANK": rank, **environment}) for rank in range(2)]


def start(words: list[Any], environment: dict[str, Any]) -> subprocess.Popen[str]:
    known = {**os.environ, "OMP_NUM_THREADS": "1", **{name: str(value) for name, value in environment.items()}}
    return subprocess.Popen(
        [sys.executable, *map(str, words)], env=known, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )


def finish(process: subprocess.Popen[str], seconds: float = 120) -> tuple[int, str]:
    """Exit code and everything it said. What takes too long is told to stop, so that torchrun takes its processes with it."""
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
        said, _ = process.communicate(timeout=60)
        raise AssertionError(f"still running after {seconds} s:\n{said}") from None
    return process.returncode, said


def figures(run: Path) -> list[dict[str, float]]:
    """What was measured at every step, times left out."""
    return [
        {name: value for name, value in record.items() if name != "tokens_per_second"} for record in read_metrics(run / "metrics.jsonl")
    ]


def largest_difference(a: list[dict[str, float]], b: list[dict[str, float]]) -> float:
    """Over all figures of all steps; the steps and the names must be the same."""
    assert [list(record) for record in a] == [list(record) for record in b]
    assert [(record["step"], record["tokens_seen"]) for record in a] == [(record["step"], record["tokens_seen"]) for record in b]
    return max(abs(x[name] - y[name]) for x, y in zip(a, b, strict=True) for name in x)
