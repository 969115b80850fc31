"""Peak memory of training GPT-2 124M on the CPU, and of its head and loss beside torch's `linear_cross_entropy`.

Every figure is the largest resident set (ru_maxrss) of a fresh process: Python, torch, weights, optimizer and all. A step is B = 4,
T = 512 with AdamW, of all weights or of LoRA's alone (rank 8, every layer of the blocks); the loss is that of 2,048 rows of width 768
over 50,304 words, forwards and backwards. "auto" is the default precision: bf16 where the CPU computes it in hardware. Processes
alternate; medians.

    python benchmarks/step_memory.py [--steps 10] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

CONFIG = Path(__file__).parent.parent / "configs" / "gpt2-small.toml"
B, T, C, V = 4, 512, 768, 50304


def step(lora_rank: int, precision_name: str) -> Callable[[], None]:
    import torch

    from gpt_kit.config import LoraConfig, load_run_config
    from gpt_kit.data.batches import make_batch
    from gpt_kit.finetuning import add_lora
    from gpt_kit.model import GPTModel
    from gpt_kit.runtime import choose_precision
    from gpt_kit.training import Optimizers, optimizer_step

    device = torch.device("cpu")
    config = load_run_config(CONFIG)
    model = GPTModel(config.model)
    add_lora(model, LoraConfig(rank=lora_rank))
    optimizers = Optimizers(model, config.training, device)
    precision = choose_precision(precision_name, device)
    batch = make_batch(torch.randint(0, 50257, (B, T + 1)).numpy())
    return lambda: (optimizer_step(model, optimizers, [batch], max_grad_norm=1.0, precision=precision, device=device), None)[1]


def loss(whose: str, precision_name: str) -> Callable[[], None]:
    import torch
    import torch.nn.functional as F

    from gpt_kit.model import linear_cross_entropy_sum
    from gpt_kit.runtime import choose_precision

    precision = choose_precision(precision_name, torch.device("cpu"))
    hidden, weight = torch.randn(B * T, C, requires_grad=True), (torch.randn(V, C) * 0.02).requires_grad_()
    targets = torch.randint(0, 50257, (B * T,))

    def run() -> None:
        hidden.grad = weight.grad = None
        with precision.autocast():
            if whose == "ours":
                value = linear_cross_entropy_sum(hidden, weight, targets)
            else:
                dtype = precision.autocast_dtype or torch.float32
                options = torch.nn.LinearCrossEntropyOptions() if whose == "torch's, chunked" else None
                value = F.linear_cross_entropy(hidden.to(dtype), weight.to(dtype), targets, reduction="sum", options=options)
        value.backward()

    return run


CASES: dict[str, Callable[[], Callable[[], None]]] = {
    f"{what}, {precision}": partial(function, *of, precision)
    for precision in ("auto", "float32")
    for what, function, of in [
        ("step", step, (0,)),
        ("step, LoRA", step, (8,)),
        *((f"loss, {whose}", loss, (whose,)) for whose in ("ours", "torch's", "torch's, chunked")),
    ]
}


def measure(case: str, steps: int) -> tuple[float, float]:
    """Median seconds after two warm-up rounds, and the peak of this process in GB."""
    from gpt_kit.runtime import seed_everything, tune_memory

    tune_memory()
    seed_everything(0)
    run, times = CASES[case](), []
    for _ in range(steps):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10, help="steps per process, of which the first two are not timed")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each kind, alternating")
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--only", choices=list(CASES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments.only, arguments.steps)))
        return
    import torch

    print(f"python {sys.version.split()[0]}, torch {torch.__version__}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}")
    print(f"command: python {' '.join(sys.argv)}")
    found: dict[str, list[tuple[float, float]]] = {case: [] for case in arguments.cases}
    for _ in range(arguments.rounds):
        for case in arguments.cases:
            command = [sys.executable, __file__, "--only", case, "--steps", str(arguments.steps)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[case].append(tuple(json.loads(output.splitlines()[-1])))
            print(f"{case:32} {found[case][-1][0]:7.3f} s   peak {found[case][-1][1]:.2f} GB", flush=True)
    print("\nmedians")
    for case, results in found.items():
        seconds, peak = (statistics.median(column) for column in zip(*results, strict=True))
        print(f"{case:32} {seconds:7.3f} s   peak {peak:.2f} GB", flush=True)


if __name__ == "__main__":
    main()
