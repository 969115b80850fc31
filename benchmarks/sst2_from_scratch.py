"""SST-2 without published weights: a small GPT is pre-trained on three megabytes of text, then learns the labels of 6,920 sentences.

    texts     Shakespeare, "The Verdict", WikiText-2's validation articles and the training sentences themselves, in lower case
    pretrain  4 layers of width 192 over byte pairs (8,192 entries) that are learned from the same texts
    labels    gpt-kit finetune classify from those weights, and from new ones; a bag of words beside it in the same run

    python benchmarks/sst2_from_scratch.py [--data ../shared/data] [--out FOLDER] [--seeds 3]

Figures are those of the last step on the 872 dev sentences, which chose nothing; settings were chosen on sentences of the training set.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXTS = ("tinyshakespeare.txt", "the-verdict.txt", "wikitext2/valid.txt")
PRETRAIN = (
    "--model gpt2-small --model.n-layer 4 --model.n-embd 192 --model.n-head 3 --model.max-position-embeddings 128 "
    "--model.attention-dropout 0 --data.stride 96 --training.max-steps 2400 --training.batch-size 16 --training.optimizer muon "
    "--training.learning-rate 3e-3 --training.warmup-steps 50 --evaluation.interval 600 --evaluation.sample-tokens 0"
).split()
FINETUNE = (
    "--classify.closing-token --classify.inner-dropout 0.1 --classify.epochs 4 --training.learning-rate 3e-4 "
    "--evaluation.interval 1000 --classify.labels negative positive"
).split()
METRICS = ("accuracy", "f1", "matthews")


def gpt_kit(*words: object) -> float:
    """Run one command; gives its wall time in seconds."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "gpt_kit", *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - started


def write_texts(data: Path, folder: Path) -> None:
    """The unlabelled texts, in lower case as SST-2 is; every sentence a document of its own."""
    folder.mkdir(parents=True)
    for name in TEXTS:
        (folder / name.replace("/", "-")).write_text((data / name).read_text(encoding="utf-8").lower(), encoding="utf-8")
    sentences = [line.split("\t")[0] for line in (data / "sst2/train.tsv").read_text(encoding="utf-8").splitlines()]
    (folder / "sst2.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in sentences), encoding="utf-8")


def write_new_weights(like: Path, folder: Path) -> None:
    """A model of the same shape and tokenizer that has read nothing."""
    import torch

    from gpt_kit import GPTModel, load_tokenizer

    torch.manual_seed(0)
    GPTModel(GPTModel.from_pretrained(like).config).save_pretrained(folder)
    load_tokenizer(like).save(folder)


def figures(run: Path) -> dict[str, dict[str, dict[str, float]]]:
    """task -> metric -> value, stderr, count."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for line in (run / "evaluations.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.setdefault(row["task"], {})[row["metric"]] = row
    return found


def tell(name: str, runs: list[dict[str, dict[str, float]]]) -> None:
    """Mean over the seeds, the standard error of one, and the range."""
    parts = []
    for metric in METRICS:
        values = [run[metric]["value"] for run in runs]
        spread = f" ({min(values):.4f} to {max(values):.4f})" if len(values) > 1 else ""
        parts.append(f"{metric} {statistics.fmean(values):.4f} ± {runs[0][metric]['stderr']:.4f}{spread}")
    print(f"{name:<14} {', '.join(parts)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--out", type=Path, default=None, help="keep the runs in this folder, which must not exist yet")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    import torch

    print(f"python {sys.version.split()[0]}, torch {torch.__version__}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}")
    train, dev = arguments.data / "sst2/train.tsv", arguments.data / "sst2/dev.tsv"
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary) / "runs"
        write_texts(arguments.data, out / "texts")
        gpt_kit("prepare", out / "texts", "--tokenizer", "bpe", "--vocab-size", 8192, "--val-fraction", 0.02, "--out", out / "corpus")
        print(f"pre-training   {gpt_kit('train', '--data', out / 'corpus', '--out', out / 'pre-trained', *PRETRAIN):.0f} s", flush=True)
        write_new_weights(out / "pre-trained", out / "new weights")
        for base in ("pre-trained", "new weights"):
            runs = []
            for seed in range(arguments.seeds):
                run = out / f"labels, {base}, {seed}"
                words = ["--model", out / base, "--data", train, "--val", dev, "--training.seed", seed, "--out", run]
                seconds = gpt_kit("finetune", "classify", *words, *FINETUNE)
                print(f"fine-tuning    {seconds:.0f} s", flush=True)
                runs.append(figures(run))
            tell(base, [found["classify"] for found in runs])
        tell("bag of words", [runs[0]["bag of words"]])


if __name__ == "__main__":
    main()
