r"""Perplexity of texts, plain or strided, per token, word and byte.

A text is scored from its first token on: that one is predicted from the token that begins a text, where the vocabulary has one (else
it is not scored, and its bytes are not counted). Windows are as long as the context. The first is scored whole; each further one ends
`stride` tokens after the one before and scores only these, so that with a small stride every token is predicted from nearly a whole
context (Press et al. 2021, section 2). The last window reaches back too, instead of beginning anew: with stride = context these are
the windows of lm-evaluation-harness (loglikelihood_rolling). Texts are scored apart.

Standard errors are over windows (of short texts: over texts). Neighbouring windows of one text resemble each other, so for a single
long text the true error is larger.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from gpt_kit.errors import DataError, InputError
from gpt_kit.evaluation.scorer import Scorer
from gpt_kit.evaluation.statistics import Figure, exponential, ratio_with_error
from gpt_kit.evaluation.token_trees import Request
from gpt_kit.tokenizers import Tokenizer
from gpt_kit.tokenizers.base import BEGIN_OF_TEXT

WINDOWS_AT_ONCE = 512  # held in memory and sorted; a text of any length is read once


@dataclass(frozen=True, slots=True)
class Window:
    """A request and what it scores."""

    request: Request
    bytes: float
    """Of UTF-8, of the tokens that are scored."""
    words: float
    """As many of the text's pieces between white space as its share of the bytes."""


def first_token_id(tokenizer: Tokenizer) -> int | None:
    """The token that stands before a text: the role "bos_token", <bos>, or the end token of the text before; None without any."""
    name = tokenizer.roles.get("bos_token", BEGIN_OF_TEXT)
    return tokenizer.special_tokens.get(name, tokenizer.end_of_text_id)


def evaluate_perplexity(
    scorer: Scorer,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    *,
    stride: int = 0,
    limit: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Figure]:
    """perplexity (per token), word_perplexity, byte_perplexity and bits_per_byte of `texts`.

    `stride` in tokens, from 1 to the context; 0: the context. `limit`: the first so many windows; 0: all. `progress` is called with the
    number of tokens scored. Raises: InputError for such a stride; DataError where no token is scored.
    """
    if not 0 <= stride <= scorer.context:
        raise InputError(f"the stride is {stride} tokens; expected 1 to {scorer.context}, this model's context, or 0 for the context")
    every = itertools.chain.from_iterable(text_windows(text, tokenizer, scorer.context, stride or scorer.context) for text in texts)
    coming = itertools.islice(every, limit or None)
    windows: list[tuple[float, int, float, float]] = []  # nats, tokens, bytes, words
    scored = 0
    while group := list(itertools.islice(coming, WINDOWS_AT_ONCE)):
        scores = scorer.score([window.request for window in group])
        for window, score in zip(group, scores, strict=True):
            windows.append((-score.log_likelihood, len(window.request.continuation), window.bytes, window.words))
            scored += len(window.request.continuation)
        progress(scored)
    if not windows:
        raise DataError("no token is scored: the text is empty, or a single token that nothing stands before. Give it more text")
    return _figures(*(list(column) for column in zip(*windows, strict=True)))


def text_windows(text: str, tokenizer: Tokenizer, length: int, stride: int) -> Iterator[Window]:
    """The windows of one text: `length` tokens are read, the last `stride` of them newly scored."""
    first, ids = first_token_id(tokenizer), tokenizer.encode(text)
    unscored = 0 if first is not None else _num_bytes(tokenizer, ids[:1])
    ids = ids if first is None else [first, *ids]
    bytes_left = whole = max(1, len(text.encode(errors="replace")) - unscored)
    words = len(re.split(r"\s+", text))
    done, num_targets = 0, len(ids) - 1
    while done < num_targets:
        end = min(done + (stride if done else length), num_targets)
        scored = ids[done + 1 : end + 1]
        size = min(_num_bytes(tokenizer, scored), bytes_left) if end < num_targets else bytes_left  # cut characters, text made lower case
        bytes_left -= size
        yield Window(Request(ids[max(0, end - length) : done + 1], scored), size, words * size / whole)
        done = end


def _num_bytes(tokenizer: Tokenizer, ids: list[int]) -> int:
    return len(tokenizer.decode(ids).encode())


def _figures(nats: list[float], tokens: list[int], sizes: list[float], words: list[float]) -> list[Figure]:
    figures = []
    for name, parts, unit in (("perplexity", tokens, "tokens"), ("word_perplexity", words, "words"), ("byte_perplexity", sizes, "bytes")):
        figures.append(exponential(name, *ratio_with_error(nats, parts), round(sum(parts)), unit))
    mean, stderr = ratio_with_error(nats, sizes)
    bits = None if stderr is None else stderr / math.log(2)
    return [*figures, Figure("bits_per_byte", mean / math.log(2), bits, round(sum(sizes)), "bytes")]
