"""`gpt-kit plan` held against what then happens: memory and time of whole runs, each in a fresh process.

Three sizes: the shape of the quickstart, that of `configs/shakespeare-char-cpu.toml`, and GPT-2 124M for a few steps. `plan` looks at
each for some seconds; then `train` runs with the same settings. Memory is the peak of resident memory on a CPU, of what torch
allocated on a card; time is that of the whole command, from the first import to the last file. The goal: memory within 15 %, time
within 20 %. The last column is the machine's load before and after: above the number of cores, others had a share of the time, and
what was planned on an idle machine cannot hold. On such a machine --busy has everything done by one thread and takes the processor's time
for the clock's, on both sides.

    python benchmarks/plan_against_run.py --text tinyshakespeare.txt [--only gpt2-124m] [--device cpu] [--busy]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BUSY = "PLAN_AGAINST_RUN_BUSY"
ROOT = Path(__file__).parent.parent
QUICKSTART = "--config {root}/src/gpt_kit/cli/quickstart.toml --training.max-steps 100 --evaluation.interval 50 --data.windows random"
CASES = {
    "quickstart": QUICKSTART,
    "shakespeare": "--config {root}/configs/shakespeare-char-cpu.toml --training.max-steps 200 --evaluation.interval 100",
    "gpt2-124m": "--config {root}/configs/gpt2-small.toml --model.max-position-embeddings 512 --training.batch-size 4 "
    "--training.micro-batch-size 4 --training.max-steps 6 --training.compile off --evaluation.interval 6 --checkpoints.interval 0 "
    "--data.val-fraction 0.02",
}


def planned(words: list[str]) -> tuple[float, float]:
    from gpt_kit.cli.plan import PlanArguments
    from gpt_kit.cli.planning import make_plan
    from gpt_kit.cli.train import parse_settings, settings_of

    arguments = parse_settings(PlanArguments, "plan", words)
    plan = make_plan(settings_of(arguments), STARTED, arguments.out)
    assert plan.time is not None, "this machine has not enough memory for this case"
    print(plan.memory, plan.time, file=sys.stderr)
    return plan.memory.total, plan.time.total


def trained(words: list[str]) -> tuple[float, float]:
    import torch

    from gpt_kit.cli import main
    from gpt_kit.runtime import choose_device, peak_memory

    device = words[words.index("--training.device") + 1]
    assert main(["train", *words]) == 0
    seconds = time.perf_counter() - STARTED
    return peak_memory(torch.device(choose_device(device))), seconds


def in_a_child(what: str, words: list[str], verbose: bool, busy: bool) -> tuple[float, float]:
    command = [sys.executable, __file__, "--child", what, *words]
    environment = os.environ | ({BUSY: "1", "OMP_NUM_THREADS": "1"} if busy else {})
    quiet = None if verbose else subprocess.DEVNULL
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=quiet, text=True, env=environment).stdout
    memory, seconds = json.loads(output.splitlines()[-1])
    return memory, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", default="python-docs", help="a text of a megabyte or so")
    parser.add_argument("--only", choices=list(CASES), action="append", help="one case, or several")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--busy", action="store_true", help="one thread, and processor time: for a machine with other work")
    parser.add_argument("--verbose", action="store_true", help="the parts of each plan, too")
    arguments = parser.parse_args()
    cores = f"{os.cpu_count()} cores" if arguments.device in ("auto", "cpu") else arguments.device
    print(f"python {platform.python_version()}, {platform.machine()}, {cores}; command: python {' '.join(sys.argv)}\n")
    print("| | memory planned | used | | time planned | taken | | load |\n|---|---|---|---|---|---|---|---|", flush=True)
    for case in arguments.only or CASES:
        with tempfile.TemporaryDirectory() as folder:
            words = CASES[case].format(root=ROOT).split()
            words += [
                "--data",
                str(Path(arguments.text).resolve()) if Path(arguments.text).exists() else arguments.text,
                "--training.device",
                arguments.device,
                "--out",
                f"{folder}/run",
            ]
            load = os.getloadavg()[0]
            memory, seconds = in_a_child("plan", words, arguments.verbose, arguments.busy)
            used, taken = in_a_child("train", words, arguments.verbose, arguments.busy)
        print(
            f"| {case} | {memory / 1e9:.2f} GB | {used / 1e9:.2f} GB | {memory / used - 1:+.0%} "
            f"| {seconds:.1f} s | {taken:.1f} s | {seconds / taken - 1:+.0%} | {load:.1f}–{os.getloadavg()[0]:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    if BUSY in os.environ:
        time.perf_counter = time.process_time
    STARTED = time.perf_counter()
    if sys.argv[1:2] == ["--child"]:
        print("\n" + json.dumps({"plan": planned, "train": trained}[sys.argv[2]](sys.argv[3:])))
    else:
        main()
