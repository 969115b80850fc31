"""How fast text becomes a corpus, beside tiktoken alone on the same text, and how much memory it takes.

    python benchmarks/prepare_corpus.py                  # 200 MB of .txt and of .jsonl, three rounds each, medians
    python benchmarks/prepare_corpus.py --memory 2000    # peak memory of a child process that prepares 2 GB

tiktoken's figure is its best: `encode_to_numpy` over documents that lie in memory, on the same number of threads, with nothing
read and nothing kept. Ours is the whole of `gpt-kit prepare`: reading, checking, hashing, encoding, writing and flushing to the
disk, then counting duplicates, looking for leaks and the manifest.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tiktoken
from numpy.typing import NDArray

from gpt_kit.config import CorpusConfig
from gpt_kit.data import prepare_corpus
from gpt_kit.tokenizers import load_tokenizer

DATA = Path(os.environ.get("GPT_KIT_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
UNIT_BYTES = 1_000_000
Times = NDArray[np.float64]


def documents(megabytes: int) -> Iterator[str]:
    """Some 4 kB each, of paragraphs of real English drawn at random."""
    text = "\n".join((DATA / name).read_text(encoding="utf-8") for name in ("wikitext2/valid.txt", "tinyshakespeare.txt"))
    paragraphs = [part for part in text.split("\n") if len(part) > 40]
    rng, size = random.Random(0), 0
    while size < megabytes * 1_000_000:
        document = "\n\n".join(rng.choices(paragraphs, k=rng.randint(4, 30))) + "\n"
        size += len(document.encode())
        yield document


def write(folder: Path, kind: str, megabytes: int) -> Path:
    """The documents as one file."""
    path = folder / f"text.{kind}"
    with open(path, "w", encoding="utf-8") as file:
        for document in documents(megabytes):
            file.write(json.dumps({"text": document}, ensure_ascii=False) + "\n" if kind == "jsonl" else document + "<|endoftext|>\n")
    return path


def now() -> Times:
    """Seconds on the clock, and of the processor: where others use the machine too, the latter say more."""
    return np.array([time.perf_counter(), time.process_time()])


def time_tiktoken(texts: list[str], encoding: tiktoken.Encoding, threads: int) -> Times:
    """Seconds to encode `texts`, about a megabyte a task."""
    units: list[list[str]] = [[]]
    size = 0
    for text in texts:
        units[-1].append(text)
        size += len(text)
        if size >= UNIT_BYTES:
            units.append([])
            size = 0
    began = now()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda unit: [encoding.encode_to_numpy(text, disallowed_special=()) for text in unit], units):
            pass
    return now() - began


def time_prepare(path: Path, out: Path, threads: int) -> tuple[Times, Times]:
    """Seconds until the last document is written, and in all."""
    began = now()
    encoded = began

    def progress(activity: str, *_: int) -> None:
        nonlocal encoded
        if activity == "encoding":
            encoded = now()

    prepare_corpus(str(path), out, CorpusConfig(threads=threads), progress)
    return encoded - began, now() - began


def compare(megabytes: int, rounds: int, threads: int, kinds: list[str]) -> None:
    """Each preparation is compared with tiktoken's rate just before and just after it, for the speed of a shared machine drifts."""
    encoding = load_tokenizer("gpt2")._encoding  # type: ignore[attr-defined]
    texts = list(documents(megabytes))
    size = sum(len(text.encode()) for text in texts) / 1e6
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            path = write(Path(folder), kind, megabytes)
            alone = [time_tiktoken(texts, encoding, threads)]
            ours: dict[str, list[Times]] = {"until written": [], "the whole of prepare": []}
            for number in range(rounds):
                for times, seconds in zip(ours.values(), time_prepare(path, Path(folder, f"corpus-{number}"), threads), strict=True):
                    times.append(seconds)
                alone.append(time_tiktoken(texts, encoding, threads))
            beside = [(before + after) / 2 for before, after in itertools.pairwise(alone)]
            print(f".{kind:<6}{'tiktoken alone':<22}{', '.join(f'{size / seconds:.1f}' for seconds, _ in alone)} MB/s")
            for name, times in ours.items():
                shares = np.array([theirs / own for theirs, own in zip(beside, times, strict=True)])
                rates = ", ".join(f"{size / seconds:.1f} ({share:.0%})" for (seconds, _), (share, _) in zip(times, shares, strict=True))
                by_clock, by_processor = np.median(shares, axis=0)
                print(f".{kind:<6}{name:<22}{rates} MB/s: {by_clock:.0%} of tiktoken's rate, {by_processor:.0%} by processor time")


def measure_memory(megabytes: int, threads: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), "txt", megabytes)
        words = [sys.executable, __file__, "--child", str(path), str(Path(folder, "corpus")), "--threads", str(threads)]
        began = time.perf_counter()
        peak = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[-1]
        seconds, size = time.perf_counter() - began, path.stat().st_size / 1e6
        print(f"{size:,.0f} MB of text in {seconds:.0f} s ({size / seconds:.1f} MB/s): peak memory {int(peak) / 1e9:.2f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=("txt", "jsonl"), default=["txt", "jsonl"])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--memory", type=int, help="megabytes of text for the measurement of memory")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        prepare_corpus(asked.child[0], Path(asked.child[1]), CorpusConfig(threads=asked.threads))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return
    print(f"{platform.machine()}, {asked.threads} threads, Python {platform.python_version()}, tiktoken {tiktoken.__version__}")
    if asked.memory:
        measure_memory(asked.memory, asked.threads)
    else:
        compare(asked.megabytes, asked.rounds, asked.threads, asked.kinds)


if __name__ == "__main__":
    main()
