"""What a run does beside its steps, as shares of its time: reading batches, saving, evaluating; and whether a long run slows down.

- Loader: `TrainingBatches.batch()` on corpora of 2 MB and 2 GB of random ids, against the step that is trained with it. The large one
  is dropped from the page cache first, so that its first batches come from the disk.
- Saving: one checkpoint of GPT-2 124M (weights and AdamW's moments, flushed to the disk, with hashes) and the deletion of an old one,
  against the steps of the default interval.
- Evaluation: the tokens that `evaluation.time_share` buys, at the rate that they are really scored, and one sample of text.
- Length: steps per second in the second tenth of a run of a tiny model, and in its last.

Each as a share of two runs: of this machine's steps of 4 windows of 512 tokens, and of steps of 512 windows of 1,024 tokens (as in
configs/gpt2-small.toml) on a device that trains `--fast-rate` tokens per second; an H100 reaches about 500,000.

    python benchmarks/loader_and_saving.py [--large-bytes 2e9] [--steps 3] [--fast-rate 5e5]
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from gpt_kit.cli import main as gpt_kit
from gpt_kit.config import CheckpointConfig, EvaluationConfig, TrainingConfig, create_model_config
from gpt_kit.data import EvaluationBatches, TrainingBatches
from gpt_kit.data.shards import ShardWriter, TokenArray, open_shard
from gpt_kit.evaluation import evaluate_loss
from gpt_kit.generation import generate_text
from gpt_kit.model import GPTModel
from gpt_kit.runtime import Precision, choose_precision, seed_everything, tune_memory
from gpt_kit.tokenizers import load_tokenizer
from gpt_kit.training import Optimizers, TrainingState, optimizer_step, points_of, read_metrics, save_checkpoint
from gpt_kit.training.checkpoint import prune_checkpoints

B, T, VOCABULARY = 4, 512, 50257
FAST_B, FAST_T = 512, 1024
CPU = torch.device("cpu")
FINGERPRINT = "00" * 32
SMALL_BYTES = 2_000_000


def seconds_of(act: Callable[[], object]) -> float:
    """How long it takes, once."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def random_corpus(folder: Path, num_bytes: int) -> TokenArray:
    """Shards of random ids, two bytes each, and not in the page cache."""
    rng, left = np.random.default_rng(0), num_bytes // 2
    folder.mkdir()
    with ShardWriter(folder, "train", VOCABULARY, FINGERPRINT) as writer:
        while left:
            part = min(left, 10_000_000)
            writer.write(rng.integers(0, VOCABULARY, part, dtype=np.uint16))
            left -= part
    for name in writer.shards:
        with open(folder / name, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return TokenArray([open_shard(folder / name, FINGERPRINT) for name in writer.shards])


def time_loader(tokens: TokenArray, batch_size: int, length: int, first: int, number: int) -> list[float]:
    """Seconds of each of `number` batches, from batch `first` of the run on."""
    batches = TrainingBatches(tokens, length=length, batch_size=batch_size, seed=1)
    return [seconds_of(lambda n=n: batches.batch(n)) for n in range(first, first + number)]  # type: ignore[misc]


def time_long_run(folder: Path, steps: int) -> tuple[float, float]:
    """Tokens per second in the second tenth of a run and in the last: medians."""
    text = folder / "text.txt"
    text.write_text("".join(chr(97 + number) for number in np.random.default_rng(0).integers(0, 26, 200_000)))
    words = f"train --data {text} --out {folder}/long --data.tokenizer char --model.n-layer 2 --model.n-embd 64 --model.n-head 1"
    words += f" --model.max-position-embeddings 64 --training.max-steps {steps} --training.batch-size 8 --training.device cpu"
    words += f" --evaluation.interval {steps} --checkpoints.interval 0 --logging.interval 10 --evaluation.sample-tokens 0"
    with contextlib.redirect_stdout(io.StringIO()):
        assert gpt_kit(words.split()) == 0
    rates = [rate for _, rate in points_of(read_metrics(folder / "long" / "metrics.jsonl"), "tokens_per_second")]
    tenth = len(rates) // 10
    return statistics.median(rates[tenth : 2 * tenth]), statistics.median(rates[-tenth:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large-bytes", type=float, default=2e9, help="size of the large corpus")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of GPT-2 124M")
    parser.add_argument("--run-steps", type=int, default=3000, help="steps of the long run of a tiny model")
    parser.add_argument("--fast-rate", type=float, default=5e5, help="tokens per second of a faster device")
    arguments = parser.parse_args()
    print(f"python {sys.version.split()[0]}, torch {torch.__version__}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}")
    print(f"GPT-2 124M, B = {B}, T = {T}; command: python {' '.join(sys.argv)}")
    tune_memory()
    seed_everything(0)
    folder = Path(tempfile.mkdtemp(prefix="gpt-kit-benchmark-"))
    try:
        measure(folder, arguments)
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, arguments: argparse.Namespace) -> None:
    """Everything, in order, printed as it comes."""
    small, large = (random_corpus(folder / name, int(size)) for name, size in (("small", SMALL_BYTES), ("large", arguments.large_bytes)))
    rates = dict.fromkeys(("embedding_dropout", "attention_dropout", "residual_dropout"), 0.0)
    model = GPTModel(dataclasses.replace(create_model_config("gpt2-small", vocab_multiple=64), **rates))
    optimizers, precision = Optimizers(model, TrainingConfig(), CPU), choose_precision("auto", CPU)
    step = time_steps(model, optimizers, precision, large, arguments.steps)
    print(f"step: {step:.2f} s, {B * T / step:,.0f} tokens/s ({precision.name})")
    fast = arguments.fast_rate
    report_loader("2 MB", small, 0, step, fast)
    report_loader(f"{arguments.large_bytes / 1e9:g} GB", large, 0, step, fast)
    report_loader(f"{arguments.large_bytes / 1e9:g} GB, a million steps later", large, 10**6, step, fast)
    report_saving(folder / "run", model, optimizers, step, fast)
    report_evaluation(model, precision, small, step)
    second, last = time_long_run(folder, arguments.run_steps)
    print(
        f"length: {second:,.0f} tokens/s in the second tenth of {arguments.run_steps:,} steps, {last:,.0f} in the last: {last / second:.3f}"
    )


def time_steps(model: GPTModel, optimizers: Optimizers, precision: Precision, tokens: TokenArray, steps: int) -> float:
    """The median seconds of a step, the batch included; two steps to warm up."""
    batches = TrainingBatches(tokens, length=T, batch_size=B, seed=1)

    def step(number: int) -> None:
        optimizer_step(model, optimizers, [batches.batch(number)], max_grad_norm=1.0, precision=precision, device=CPU)

    return statistics.median([seconds_of(lambda n=n: step(n)) for n in range(steps + 2)][2:])  # type: ignore[misc]


def report_loader(corpus: str, tokens: TokenArray, first: int, step: float, fast_rate: float) -> None:
    """Means, for a page that comes from the disk costs a thousand times what the median costs."""
    here = statistics.fmean(time_loader(tokens, B, T, first, 500))
    fast = statistics.fmean(time_loader(tokens, FAST_B, FAST_T, first, 10))
    print(
        f"loader, {corpus}: {B} x {T} in {1e6 * here:,.0f} µs, {100 * here / step:.4f} % of a step; "
        f"{FAST_B} x {FAST_T} in {1e3 * fast:.1f} ms, {100 * fast * fast_rate / (FAST_B * FAST_T):.2f} % at {fast_rate:,.0f} tokens/s"
    )


def report_saving(run: Path, model: GPTModel, optimizers: Optimizers, step: float, fast_rate: float) -> None:
    tokenizer, times, interval = load_tokenizer("gpt2"), [], CheckpointConfig().interval
    for number in (1, 2, 3):
        state = TrainingState(step=number)
        times.append(seconds_of(lambda s=state: save_checkpoint(run, model, optimizers, s, tokenizer)))  # type: ignore[misc]
        times[-1] += seconds_of(lambda: prune_checkpoints(run, keep=1, best_step=0))
    size = sum(file.stat().st_size for file in run.rglob("*") if file.is_file())
    seconds = statistics.median(times)
    fast = interval * FAST_B * FAST_T / fast_rate
    print(
        f"saving: {size / 1e9:.2f} GB in {seconds:.1f} s ({', '.join(f'{t:.1f}' for t in times)}), once in {interval} steps: "
        f"{100 * seconds / (interval * step):.2f} % of the time; {100 * seconds / fast:.2f} % at {fast_rate:,.0f} tokens/s"
    )


def report_evaluation(model: GPTModel, precision: Precision, tokens: TokenArray, step: float) -> None:
    """An evaluation reads 3 x share x the tokens of an interval (a step costs three forward passes): what does it really cost?"""
    settings, tokenizer = EvaluationConfig(), load_tokenizer("gpt2")
    batches = EvaluationBatches(tokens, length=T, batch_size=B, max_tokens=4 * B * T)
    evaluate_loss(model, batches, precision=precision, device=CPU)
    rate = 4 * B * T / seconds_of(lambda: evaluate_loss(model, batches, precision=precision, device=CPU))
    sample = seconds_of(lambda: generate_text(model, tokenizer, "The", settings.sample_tokens, seed=1))
    training = settings.interval * step
    evaluating = 3 * settings.time_share * settings.interval * B * T / rate
    print(
        f"evaluation: {rate:,.0f} tokens/s; given {100 * settings.time_share:.0f} % of the time, it takes "
        f"{100 * evaluating / training:.1f} % of the training time, and a sample of {settings.sample_tokens} tokens {sample:.1f} s more "
        f"({100 * sample / training:.2f} %), every {settings.interval} steps"
    )


if __name__ == "__main__":
    main()
