"""`gpt-kit quickstart`: from raw text to a GPT that writes, in minutes, without network or files."""

from __future__ import annotations

import dataclasses
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from gpt_kit.cli.arguments import parse
from gpt_kit.errors import ConfigError

if TYPE_CHECKING:
    from gpt_kit.config import RunConfig
    from gpt_kit.data import Corpus

PROMPT = "Create a new"
PROBE_STEPS = 8
FEWEST_STEPS = 100  # with fewer, what it writes looks like nothing learned
LONGEST_MINUTES = 24 * 60


@dataclass(frozen=True, kw_only=True)
class QuickstartArguments:
    """Train a small GPT on the documentation inside this Python, and see it learn to write. Needs no network and no file."""

    minutes: float = 2.8
    """Time for training, in minutes, above 0 to 1440 (a day); at least 100 steps are made. The rest takes about half a minute."""
    out: Path = Path("runs/quickstart")
    """The run's folder; where it is taken, a number is added."""
    max_steps: int = 0
    """Steps (updates of the weights), 1 or more; 0 means as many as the time allows, by the measured speed of this machine."""
    chat: bool = False
    """Go on from the demo (made first, where it is not there yet): teach it to answer questions on Python, and open a chat with it."""


def main(words: Sequence[str]) -> None:
    """The whole way, with a word on each stage."""
    arguments = parse(QuickstartArguments, "quickstart", words)
    if not 0 < arguments.minutes <= LONGEST_MINUTES:  # also true for NaN
        raise ConfigError(f"--minutes must be above 0 and at most {LONGEST_MINUTES} (a day); got {arguments.minutes}")
    if not 0 <= arguments.max_steps < 2**63:
        raise ConfigError(f"--max-steps must be 0 (as many as the time allows) or more, below 2**63; got {arguments.max_steps}")
    if not (arguments.chat and (arguments.out / "checkpoints" / "best").is_file()):
        arguments = dataclasses.replace(arguments, out=_demo(arguments))
    if arguments.chat:
        from gpt_kit.cli.quickstart_chat import teach_and_talk

        teach_and_talk(arguments.out)


def _demo(arguments: QuickstartArguments) -> Path:
    """From raw text to a GPT that writes; gives the run's folder."""
    started = time.monotonic()

    from gpt_kit.cli.display import console, print_sample, stage

    console.print("gpt-kit quickstart: a GPT of your own, from raw text\n", style="bold")
    stage("1 text", "collecting the documentation inside this Python, learning a vocabulary from it …")

    from gpt_kit.cli.pretraining import train_run
    from gpt_kit.cli.runs import free_folder
    from gpt_kit.runtime import tune_memory

    tune_memory()
    run = free_folder(arguments.out)
    config, corpus = _prepared(run)
    stage("2 before", "what the untrained model writes:")
    print_sample(_untrained_sample(config, corpus))
    max_steps = arguments.max_steps or _affordable_steps(config, corpus, arguments.minutes * 60)
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, max_steps=max_steps))
    stage("\n3 train", "")
    train_run(config, run, corpus=corpus)
    _print_curve(run)
    stage("\n4 after", "what it writes now:")
    _print_measured(run, corpus)
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    console.print(f"({minutes}:{seconds:02d} minutes in all)\n")
    if not arguments.chat:
        _print_next(run)
    return run


def _prepared(run: Path) -> tuple[RunConfig, Corpus]:
    """The settings of the demo, and its text below `run`."""
    from gpt_kit.cli.display import console
    from gpt_kit.cli.text import open_or_prepare, with_vocabulary
    from gpt_kit.config import RunConfig, config_from_dict

    text = files("gpt_kit.cli").joinpath("quickstart.toml").read_text(encoding="utf-8")
    config = config_from_dict(RunConfig, tomllib.loads(text))
    corpus = open_or_prepare(config, run)
    train, val = corpus.info["train"], corpus.info["val"]
    console.print(
        f"          {train['documents']} documents to learn from ({train['bytes'] / 1e6:.1f} MB, {train['tokens']:,} tokens); "
        f"{val['documents']} set aside, which the model never sees\n"
    )
    return dataclasses.replace(config, model=with_vocabulary(config.model, corpus.tokenizer)), corpus


def _print_curve(run: Path) -> None:
    from gpt_kit.cli.display import console
    from gpt_kit.training import draw_loss_text, points_of, read_metrics

    console.print(f"\n          loss in training, step by step (drawn with validation in {run}/loss.png):")
    console.print(draw_loss_text(points_of(read_metrics(run / "metrics.jsonl"), "train/loss")))


def _print_measured(run: Path, corpus: Corpus) -> None:
    from gpt_kit.cli.display import console, print_sample

    ours, gzip_bits, xz_bits, size, sample = _measure(run, corpus)
    print_sample(sample)
    console.print(
        f"\nText it has never seen ({size / 1e3:,.0f} kB): your GPT needs {ours:.2f} bits per byte, "
        f"gzip -9 needs {gzip_bits:.2f}, xz -9e needs {xz_bits:.2f}.",
        style="bold",
    )


def _print_next(run: Path) -> None:
    from gpt_kit.cli.display import console

    console.print("try next:")
    console.print(f"  gpt-kit generate {run} --prompt 'Return the number of' --seed 7")
    console.print(f"  gpt-kit info {run}")
    console.print(
        "  gpt-kit train --data YOUR-TEXT.txt --data.tokenizer bpe --model.n-layer 4 --model.n-embd 192 --model.n-head 3 --out runs/mine"
    )


def _untrained_sample(config: RunConfig, corpus: Corpus) -> str:
    from gpt_kit.generation import Sampling, generate_text
    from gpt_kit.model import GPTModel
    from gpt_kit.runtime import seed_everything

    seed_everything(config.training.seed)
    model = GPTModel(config.model)
    return PROMPT + generate_text(model, corpus.tokenizer, PROMPT, 40, sampling=Sampling(temperature=0.8), seed=1)


def _affordable_steps(config: RunConfig, corpus: Corpus, seconds: float) -> int:
    """How many steps fit into the time, with their share of the evaluations, by the median of a few on a copy that is thrown away."""
    from gpt_kit.cli.pretraining import FORWARDS_PER_STEP
    from gpt_kit.data import TrainingBatches
    from gpt_kit.model import GPTModel
    from gpt_kit.runtime import choose_device, choose_precision
    from gpt_kit.training import Optimizers, optimizer_step

    device = choose_device(config.training.device)
    precision = choose_precision(config.training.precision, device)
    model = GPTModel(config.model).to(device)
    optimizers = Optimizers(model, config.training, device)
    batches = TrainingBatches(
        corpus.train, length=config.model.max_position_embeddings, batch_size=config.training.batch_size, seed=0, order="random"
    )
    times = []
    for number in range(PROBE_STEPS):
        started = time.perf_counter()
        optimizer_step(model, optimizers, [batches.batch(number)], max_grad_norm=1.0, precision=precision, device=device)
        times.append(time.perf_counter() - started)
    trained = config.evaluation.interval * config.training.batch_size * config.model.max_position_embeddings  # tokens per evaluation
    evaluating = min(config.evaluation.time_share, len(corpus.val) / (FORWARDS_PER_STEP * trained))  # less where the text is short
    return max(FEWEST_STEPS, int(seconds / (sorted(times)[PROBE_STEPS // 2] * (1 + evaluating))))


def _measure(run: Path, corpus: Corpus) -> tuple[float, float, float, int, str]:
    """Bits per byte of the held-out text: the model's, gzip's and xz's; the text's bytes; and a sample."""
    import gzip
    import lzma

    from gpt_kit.data import EvaluationBatches
    from gpt_kit.evaluation import evaluate_loss
    from gpt_kit.generation import Sampling, generate_text
    from gpt_kit.model import GPTModel
    from gpt_kit.runtime import choose_device, choose_precision

    model = GPTModel.from_pretrained(run)
    device = choose_device("cpu")
    length = model.config.max_position_embeddings
    batches = EvaluationBatches(corpus.val, length=length, stride=length // 2, batch_size=16)  # each token sees half a context or more
    report = evaluate_loss(model, batches, precision=choose_precision("float32", device), device=device)
    ids = corpus.val.read(0, len(corpus.val))
    text = corpus.tokenizer.decode(ids[ids != corpus.tokenizer.end_of_text_id]).encode()
    compressed = [len(gzip.compress(text, 9)), len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))]
    gzip_bits, xz_bits = (8 * size / len(text) for size in compressed)
    sample = PROMPT + generate_text(model, corpus.tokenizer, PROMPT, 100, sampling=Sampling(temperature=0.7, top_k=50), seed=1)
    return report.bits_per_byte(len(text)), gzip_bits, xz_bits, len(text), sample
