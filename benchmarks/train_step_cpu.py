"""Training GPT-2 124M on the CPU: tokens per second of this kit beside `transformers` as it comes.

Both train the same shape from random weights on random ids, B = 4, T = 512, AdamW. `transformers` runs as its documentation shows it
(float32, dropout 0.1, its own loss, torch's AdamW); the kit as `configs/gpt2-small.toml` has it (bf16 where the CPU computes it in
hardware, no dropout, fused AdamW, blocked loss, memory kept), and once more with dropout 0.1. Steps alternate in separate processes, so
that neither allocator touches the other; medians. What limits the ratio is the CPU: where bf16 products run 2.6 times as fast as
float32 ones (AVX-512-BF16) they alone take four fifths of our step; with AMX they run eight times as fast.

    python benchmarks/train_step_cpu.py [--steps 3] [--rounds 3]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

CONFIG = Path(__file__).parent.parent / "configs" / "gpt2-small.toml"
B, T = 4, 512
WARM_UP_STEPS = 2  # memory is first touched in the first, and once more in the second, when optimizer state has taken its place


def time_kit(steps: int, dropout: float = 0.0) -> list[float]:
    import torch

    from gpt_kit.config import load_run_config
    from gpt_kit.data.batches import make_batch
    from gpt_kit.model import GPTModel
    from gpt_kit.runtime import choose_precision, seed_everything, tune_memory
    from gpt_kit.training import Optimizers, optimizer_step

    tune_memory()
    seed_everything(0)
    device = torch.device("cpu")
    config = load_run_config(CONFIG)
    rates = dict.fromkeys(("embedding_dropout", "attention_dropout", "residual_dropout"), dropout)
    model = GPTModel(dataclasses.replace(config.model, **rates))
    optimizers = Optimizers(model, config.training, device)
    precision = choose_precision("auto", device)
    batch = make_batch(torch.randint(0, 50257, (B, T + 1)).numpy())

    def step() -> None:
        optimizer_step(model, optimizers, [batch], max_grad_norm=1.0, precision=precision, device=device)

    return _seconds(step, steps)


def time_kit_with_dropout(steps: int) -> list[float]:
    return time_kit(steps, dropout=0.1)


def time_transformers(steps: int) -> list[float]:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config())
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, weight_decay=0.1)
    ids = torch.randint(0, 50257, (B, T))

    def step() -> None:
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return _seconds(step, steps)


def _seconds(step: object, steps: int) -> list[float]:
    for _ in range(WARM_UP_STEPS):
        step()  # type: ignore[operator]
    times = []
    for _ in range(steps):
        started = time.perf_counter()
        step()  # type: ignore[operator]
        times.append(time.perf_counter() - started)
    return times


TIMERS = {"transformers": time_transformers, "gpt-kit": time_kit, "gpt-kit, dropout 0.1": time_kit_with_dropout}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3, help="timed steps per process")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each kind, alternating")
    parser.add_argument("--only", choices=list(TIMERS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(TIMERS[arguments.only](arguments.steps)))
        return
    import torch

    print(f"python {sys.version.split()[0]}, torch {torch.__version__}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}")
    print(f"GPT-2 124M, B = {B}, T = {T}; command: python {' '.join(sys.argv)}")
    ratios: dict[str, list[float]] = {who: [] for who in TIMERS}
    for _ in range(arguments.rounds):
        rate = {}
        for who in TIMERS:
            command = [sys.executable, __file__, "--only", who, "--steps", str(arguments.steps)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rate[who] = B * T / statistics.median(json.loads(output.splitlines()[-1]))
            ratios[who].append(rate[who] / rate["transformers"])
        print("   ".join(f"{who} {rate[who]:.0f} tokens/s" for who in TIMERS), flush=True)
    print("median ratio: " + ", ".join(f"{who} {statistics.median(ratios[who]):.2f}" for who in TIMERS))


if __name__ == "__main__":
    main()
