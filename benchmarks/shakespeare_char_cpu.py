"""Characters of Shakespeare: wall time of `configs/shakespeare-char-cpu.toml`, process start to end, and the validation loss it reaches.

The slow way beside it is nanoGPT's CPU recipe with this kit's own parts: 2,000 steps of 12 windows of 64, 4 layers of width 128, AdamW
at 1e-3, float32, learned positions. Both read the text, train, and score the whole validation split.

    python benchmarks/shakespeare_char_cpu.py tinyshakespeare.txt [--rounds 3] [--seed 1337]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
SLOW = (
    "--model.n-layer 4 --model.position-embedding learned --model.no-scale-embeddings --training.optimizer adamw "
    "--training.learning-rate 1e-3 --training.beta2 0.99 --training.warmup-steps 100 --training.min-learning-rate-ratio 0.1 "
    "--training.max-steps 2000 --training.batch-size 12 --training.precision float32 --evaluation.interval 2000"
).split()


def run(text: Path, seed: int, changes: list[str]) -> tuple[float, float]:
    """(seconds, validation loss over the whole split)"""
    from gpt_kit.training import read_metrics

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "gpt_kit", "train", "--config", str(ROOT / "configs/shakespeare-char-cpu.toml")]
        command += ["--data", str(text), "--out", f"{folder}/run", "--training.seed", str(seed), *changes]
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - started
        last = read_metrics(Path(folder) / "run/metrics.jsonl")[-1]
        return seconds, last.get("val/whole_loss", last["val/loss"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, nargs="?", default=ROOT.parent / "shared/data/tinyshakespeare.txt")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--no-slow", action="store_true", help="leave out the slow way (it takes minutes)")
    arguments = parser.parse_args()
    import torch

    print(f"python {sys.version.split()[0]}, torch {torch.__version__}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}")
    results = []
    for number in range(arguments.rounds):
        results.append(run(arguments.text, arguments.seed + number, []))
        print(f"seed {arguments.seed + number}: {results[-1][0]:.1f} s, validation loss {results[-1][1]:.4f}", flush=True)
    seconds = statistics.median(result[0] for result in results)
    print(f"median {seconds:.1f} s, worst loss {max(result[1] for result in results):.4f}")
    if not arguments.no_slow:
        slow_seconds, slow_loss = run(arguments.text, arguments.seed, SLOW)
        print(f"the slow way: {slow_seconds:.1f} s, validation loss {slow_loss:.4f}; ratio {slow_seconds / seconds:.1f}")


if __name__ == "__main__":
    main()
