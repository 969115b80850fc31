"""What others have published about GPT-1 and GPT-2, to stand beside our own figures.

A figure is only worth as much as its circumstances: each one says where it stands and how it was measured otherwise than by
`gpt-kit eval`. Where the size of its test set is known, an accuracy has the standard error of a share of that many.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """One figure from a paper or project."""

    model: str
    task: str
    """As `gpt-kit eval` names it; a name of another project's where there is no such task."""
    metric: str
    value: float
    """Accuracies and the like as shares of 1."""
    count: int | None = None
    """Examples it rests on."""
    differs: str
    """How it was measured, where that is not our way."""
    source: str
    """One of SOURCES."""

    @property
    def stderr(self) -> float | None:
        """Of an accuracy over `count` examples, as lm-evaluation-harness counts it."""
        return math.sqrt(self.value * (1 - self.value) / (self.count - 1)) if self.count else None


SOURCES = {
    "Radford et al. 2018": "Improving Language Understanding by Generative Pre-Training, table 4",
    "Radford et al. 2019": "Language Models are Unsupervised Multitask Learners, table 3",
    "lm-evaluation-harness": "EleutherAI's harness on OpenAI's weights, as quoted in hellaswag.py of build-nanogpt",
    "nanochat": "its run of CORE (Li et al. 2024, DataComp-LM) on OpenAI's weights, dev/estimate_gpt3_core.ipynb",
    "nanoGPT": "its README, OpenAI's weights",
}
GPT1_PAPER, GPT2_PAPER, HARNESS, NANOCHAT, NANOGPT = SOURCES
_CORE = "10-shot, lowest mean loss per token"
_WORDS = "test split, per word, after undoing its tokenization"


def _accuracy(model: str, task: str, metric: str, percent: float, count: int, differs: str, source: str) -> Published:
    value = round(percent / 100, 4)
    return Published(model=model, task=task, metric=metric, value=value, count=count, differs=differs, source=source)


PUBLISHED: tuple[Published, ...] = (
    _accuracy("GPT-2 124M", "hellaswag", "acc", 28.92, 10042, "zero-shot", HARNESS),
    _accuracy("GPT-2 124M", "hellaswag", "acc_norm", 31.14, 10042, "zero-shot", HARNESS),
    _accuracy("GPT-2 1558M", "hellaswag", "acc", 40.04, 10042, "zero-shot", HARNESS),
    _accuracy("GPT-2 1558M", "hellaswag", "acc_norm", 50.89, 10042, "zero-shot", HARNESS),
    _accuracy("GPT-2 124M", "arc_easy", "acc_norm", 41.2, 2376, _CORE, NANOCHAT),
    _accuracy("GPT-2 1558M", "arc_easy", "acc_norm", 59.5, 2376, _CORE, NANOCHAT),
    _accuracy("GPT-2 124M", "arc_challenge", "acc_norm", 22.2, 1172, _CORE, NANOCHAT),
    _accuracy("GPT-2 1558M", "arc_challenge", "acc_norm", 29.9, 1172, _CORE, NANOCHAT),
    _accuracy("GPT-1 117M", "sst2", "acc", 91.3, 1821, "fine-tuned on GLUE's 67,349 phrases, test set", GPT1_PAPER),
    Published(model="GPT-1 117M", task="cola", metric="mcc", value=0.454, differs="fine-tuned, test set", source=GPT1_PAPER),
    Published(model="GPT-2 124M", task="wikitext2", metric="word_perplexity", value=29.41, differs=_WORDS, source=GPT2_PAPER),
    Published(model="GPT-2 1558M", task="wikitext2", metric="word_perplexity", value=18.34, differs=_WORDS, source=GPT2_PAPER),
    Published(model="GPT-2 124M", task="wikitext103", metric="word_perplexity", value=37.5, differs=_WORDS, source=GPT2_PAPER),
    Published(model="GPT-2 1558M", task="wikitext103", metric="word_perplexity", value=17.48, differs=_WORDS, source=GPT2_PAPER),
    Published(model="GPT-2 124M", task="enwik8", metric="bits_per_byte", value=1.16, differs="test split", source=GPT2_PAPER),
    Published(model="GPT-2 1558M", task="enwik8", metric="bits_per_byte", value=0.93, differs="test split", source=GPT2_PAPER),
    Published(model="GPT-2 124M", task="openwebtext", metric="loss", value=3.12, differs="nats per token, from WebText", source=NANOGPT),
    Published(model="GPT-2 1558M", task="openwebtext", metric="loss", value=2.54, differs="nats per token, from WebText", source=NANOGPT),
)  # fmt: skip
SAME_METRIC = {"accuracy": "acc", "matthews": "mcc"}  # other names of a published metric


def published_beside(task: str, metric: str, data: str = "") -> list[Published]:
    """The figures that may stand on one scale with ours of this task and metric; `data` tells what a classifier or perplexity is about."""
    if task in ("classify", "perplexity"):
        words = re.sub(r"[^a-z0-9]", "", data.lower())
        task = next((known.task for known in PUBLISHED if known.task in words), task)
    return [figure for figure in PUBLISHED if (figure.task, figure.metric) == (task, SAME_METRIC.get(metric, metric))]
