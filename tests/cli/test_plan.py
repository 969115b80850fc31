"""`gpt-kit plan`: what it counts is exact, what it foresees is what then happens, and it leaves nothing behind."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt_kit.cli import plan as module
from gpt_kit.cli import planning
from gpt_kit.config import RunConfig
from gpt_kit.config.run import CheckpointConfig, EvaluationConfig, TrainingConfig
from gpt_kit.training import Events, Measured, StepMemory, count_events, plan_memory, plan_time, probing

Run = Callable[..., tuple[int, str, str]]
MEASURED = Measured(
    rows=4, process=1000, grown=1500, once=3.0, step=0.5, further_pass=0.2, forward=0.05, token=0.01, save_byte=1e-3
)  # fmt: skip


@pytest.fixture
def quick_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "TIMED_SECONDS", 0.0)


@pytest.mark.usefixtures("quick_probe")
def test_the_plan_of_a_run_in_words(
    run: Run, text_file: Path, tiny_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run("plan", "--data", text_file, *tiny_flags, "--cost-per-hour", "3600", "--out", "runs/new")
    assert (code, err) == (0, "")
    lines = {line[:12].strip(): line[12:] for line in out.splitlines() if not line.startswith("note")}
    assert lines["tokens"].startswith("960 in 12 steps: ") and "where Chinchilla has 20" in lines["tokens"]
    assert re.search(r"passes over 5,\d\d\d tokens", lines["text"])
    assert all(word in lines["memory"] for word in ("process", "weights", "gradients", "optimizer", "activations", "heap"))
    assert lines["micro-batch"] == "2 windows of a batch of 5; the whole batch fits at once"
    assert "evaluation" in lines["time"] and "(3 times)" in lines["time"]
    assert "3 checkpoints of" in lines["disk"] or "4 checkpoints of" in lines["disk"]
    assert float(lines["cost"].split(",")[0]) > 0.1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick_probe")
def test_without_a_text_nothing_is_said_about_passes(
    run: Run, tiny_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("plan", *tiny_flags)
    assert code == 0 and "passes" not in out and "time " in out and "cost" not in out


def test_a_run_that_does_not_fit_is_said_without_trying(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six blocks of GPT-2 XL beside 2 GB of free memory: counted in a second or two, nothing built."""
    monkeypatch.setattr(planning, "free_memory", lambda _: 2 * 10**9)
    code, out, _ = run("plan", "--model", "gpt2-xl", "--model.n-layer", "6", "--training.batch-size", "4", "--training.device", "cpu")
    assert code == 0 and "not even one window fits" in out and "time " not in out
    assert float(re.search(r"memory +(\S+) GB", out)[1]) > 4


@pytest.mark.parametrize("text", ["made up", "read"])
def test_an_absurd_batch_is_answered_with_what_it_would_need_and_what_fits(
    run: Run, text: str, text_file: Path, tiny_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten million windows are neither made nor tried; the memory is what the count says, and so is the largest micro-batch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(planning, "free_memory", lambda _: 10 * 10**9)
    words = ["plan", *tiny_flags, *(["--data", text_file] if text == "read" else []), "--training.batch-size", 10**7]
    code, out, err = run(*words, "--training.micro-batch-size", 10**7)
    assert (code, err) == (0, "")
    assert float(re.search(r"memory +(\S+) GB at most, of 10.00 GB free", out)[1].replace(",", "")) > 100
    fitting = int(re.search(r"10,000,000 windows are too many; at most ([\d,]+) fit, .* --micro-batch \d+", out)[1].replace(",", ""))
    assert 10_000 < fitting < 10**6 and "time " not in out and "batch 2.56 GB" in out
    code, out, _ = run(*words[:-1], 10**11, "--micro-batch", 4)
    assert code == 0 and "100,000,000,000 windows do not fit, even without a model: --training.batch-size below 39,062,506" in out


@pytest.mark.parametrize("cost", ["-1", "nan", "inf"])
def test_a_cost_that_is_none_is_refused(run: Run, cost: str) -> None:
    code, _, err = run("plan", f"--cost-per-hour={cost}")
    assert code == 2 and "--cost-per-hour" in err


def test_the_heap_is_a_share_of_what_is_counted() -> None:
    """The probe's tensors took 1,000 bytes and the process grew by 1,500: half as much again, also for a larger step."""
    probed = StepMemory(weights=100, gradients=100, optimizer=200, activations=600)
    larger = dataclasses.replace(probed, activations=1600)
    memory = plan_memory(larger, MEASURED, probed, process=7)
    assert (memory.process, memory.heap, memory.total) == (1000, 1000, 4000)
    assert plan_memory(larger, None, probed, process=7).process == 7


def test_time_is_the_sum_of_its_parts() -> None:
    """Batch 12 in micro-batches of 4: a step of 0.5 s and two further passes of 0.2 s; and so on by hand."""
    config = RunConfig(
        training=TrainingConfig(max_steps=10, batch_size=12),
        evaluation=EvaluationConfig(interval=4, sample_tokens=50),
        checkpoints=CheckpointConfig(interval=3),
    )
    events = count_events(config, windows=20, whole_windows=100)
    assert events == Events(evaluations=3, windows=20, last_windows=100, saves=6), "evaluated at 4, 8, 10; saved at 3, 4, 6, 8, 9, 10"
    time = plan_time(config, MEASURED, events, checkpoint_bytes=50, start=2.0)
    assert time.training == pytest.approx(10 * (0.5 + 2 * 0.2))
    assert time.evaluation == pytest.approx((3 * 20 + 100 + 3 * 4) * 0.05)
    assert time.samples == pytest.approx(3 * 50 * 0.01)
    assert (time.once, time.saving) == (5.0, pytest.approx(6 * 50 * 1e-3))
    assert count_events(config, windows=0, whole_windows=0) == Events(evaluations=0, windows=0, last_windows=0, saves=4)


@pytest.mark.parametrize(("ratio", "words"), [(1, "teaches more as about"), (20, "Near the balance"), (200, "cheaper to use")])
def test_tokens_per_parameter_are_put_into_words(ratio: int, words: str) -> None:
    assert words in module._against_chinchilla(ratio * 10**6, 10**6, 6 * ratio * 10**12)


def test_the_better_model_for_the_same_arithmetic_has_20_tokens_a_parameter() -> None:
    """6 · N · 20 N FLOPs: 1.2e14 of them suit a million parameters."""
    assert "1,000,000 parameters on 20,000,000 tokens" in module._against_chinchilla(10**6, 10**8, int(1.2e14))


@pytest.mark.parametrize(("seconds", "words"), [(8.04, "8.0 s"), (178, "2:58 min"), (3599.7, "1 h 00 min"), (900_000, "250 h 00 min")])
def test_durations_in_words(seconds: float, words: str) -> None:
    assert module._duration(seconds) == words


CHILD = """
import json, sys, time
started = time.perf_counter()
from gpt_kit.runtime import peak_memory
import torch
if sys.argv[1] == "plan":
    from gpt_kit.training import probing
    probing.TIMED_SECONDS = 0.0  # times are not asked for
    from gpt_kit.cli.plan import PlanArguments
    from gpt_kit.cli.planning import make_plan
    from gpt_kit.cli.train import parse_settings, settings_of
    plan = make_plan(settings_of(parse_settings(PlanArguments, "plan", sys.argv[2:])), started)
    print(json.dumps(plan.memory.total))
else:
    from gpt_kit.cli import main
    assert main(["train", *sys.argv[2:]]) == 0
    print(json.dumps(peak_memory(torch.device("cpu"))))
"""


@pytest.mark.slow
def test_memory_is_foreseen_within_15_percent(data_folder: Path, tmp_path: Path) -> None:
    """A model whose activations are half of the whole, planned and trained in two fresh processes; the second step is the highest."""
    flags = "--model.n-layer 3 --model.n-embd 128 --model.n-head 2 --model.max-position-embeddings 256 --data.tokenizer char".split()
    flags += "--training.batch-size 48 --training.max-steps 2 --training.device cpu --evaluation.sample-tokens 0".split()
    flags += "--data.val-fraction 0.01".split()  # an evaluation takes time, and less memory than a step
    flags += ["--data", str(data_folder / "tinyshakespeare.txt"), "--out", str(tmp_path / "run")]

    def peak(what: str) -> float:
        output = subprocess.run([sys.executable, "-c", CHILD, what, *flags], check=True, capture_output=True, text=True).stdout
        return float(json.loads(output.splitlines()[-1]))

    planned, used = peak("plan"), peak("train")
    assert planned == pytest.approx(used, rel=0.15)
    assert used > 6e8, "with fewer activations the process alone would decide"
