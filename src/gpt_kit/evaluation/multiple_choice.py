"""Questions with given answers: the model's choice is the answer that it finds most probable after the question.

`acc` compares the answers' log-likelihoods; `acc_norm` divides each by the answer's length in characters first, since long answers are
less probable for being long. The space between a question and its answer belongs to the answer, as its first token has it.
Both as lm-evaluation-harness does it (api/task.py), to the last digit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from gpt_kit.errors import InputError
from gpt_kit.evaluation.perplexity import first_token_id
from gpt_kit.evaluation.scorer import Scorer
from gpt_kit.evaluation.statistics import Figure, mean_figure
from gpt_kit.evaluation.token_trees import Request
from gpt_kit.tokenizers import Tokenizer

DELIMITER = " "
QUESTIONS_AT_ONCE = 1024  # held as tokens, and sorted


@dataclass(frozen=True, slots=True)
class Question:
    """What the model reads, the answers it chooses from, and the place of the right one among them."""

    context: str
    choices: tuple[str, ...]
    answer: int

    @property
    def answered(self) -> str:
        """The question with its right answer: an example for the model."""
        return f"{self.context}{DELIMITER}{self.choices[self.answer]}"


@dataclass(frozen=True, slots=True)
class Results:
    """Of all questions."""

    figures: list[Figure]
    truncated: int
    """Answers whose question lost its beginning: the two are longer than the model's context."""


def evaluate_questions(
    scorer: Scorer,
    tokenizer: Tokenizer,
    questions: Iterable[Question],
    metrics: Sequence[str] = ("acc", "acc_norm"),
    progress: Callable[[int], None] = lambda _: None,
) -> Results:
    """The share of questions answered rightly, by each of `metrics`. `progress` is called with the number of questions done.

    Raises: InputError without any question, or for an answer longer than the model's context.
    """
    right: dict[str, list[float]] = {metric: [] for metric in metrics}
    coming, done, truncated = iter(questions), 0, 0
    while group := list(itertools.islice(coming, QUESTIONS_AT_ONCE)):
        requests = list(encode_pairs(tokenizer, ((q.context, f"{DELIMITER}{choice}") for q in group for choice in q.choices)))
        truncated += sum(len(request.context) + len(request.continuation) > scorer.context + 1 for request in requests)
        scores = iter(scorer.score(requests))
        for question in group:
            likelihoods = [next(scores).log_likelihood for _ in question.choices]
            for metric in metrics:
                right[metric].append(float(_chosen(metric, likelihoods, question.choices) == question.answer))
        done += len(group)
        progress(done)
    if not done:
        raise InputError("there is no question to answer: the data is empty")
    return Results([mean_figure(metric, values, "questions") for metric, values in right.items()], truncated)


def encode_pairs(tokenizer: Tokenizer, pairs: Iterable[tuple[str, str]]) -> Iterator[Request]:
    """(context, continuation) as text -> requests.

    White space at the end of a context goes to the continuation. Both are encoded together and parted where the context alone would
    end, so that a token may not straddle them; an empty context is the token that begins a text.
    Raises: InputError for a continuation without a token, or an empty context where the vocabulary begins no text.
    """
    last, last_ids = "", list[int]()
    for context, continuation in pairs:
        kept = context.rstrip()
        whole = tokenizer.encode(context + continuation)
        if kept != last:
            last, last_ids = kept, tokenizer.encode(kept)
        before = last_ids if kept else _beginning(tokenizer)
        after = whole[len(last_ids) :] if kept else whole
        if not kept and after[:1] == before:
            after = after[1:]
        if not after:
            raise InputError(f"there is nothing to score after {context[-40:]!r}: {continuation!r} has no token of its own")
        yield Request(before, after)


def _beginning(tokenizer: Tokenizer) -> list[int]:
    first = first_token_id(tokenizer)
    if first is None:
        raise InputError(f"an empty context needs a token that begins a text, and this {tokenizer.name} tokenizer has none")
    return [first]


def _chosen(metric: str, likelihoods: list[float], choices: Sequence[str]) -> int:
    """The place of the first best answer. An empty answer has no length to be divided by, and is never chosen."""
    if metric == "acc_norm":
        pairs = zip(likelihoods, choices, strict=True)
        likelihoods = [likelihood / len(choice) if choice else -math.inf for likelihood, choice in pairs]
    return max(range(len(likelihoods)), key=likelihoods.__getitem__)
