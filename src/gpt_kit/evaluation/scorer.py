"""Log-likelihoods of continuations, many at a time.

requests -> trees of those that begin alike -> rows of trees, batches of rows -> hidden states -> log-probabilities where a token is
scored, and nowhere else. The head is the dearest layer of a small GPT: GPT-2 124M spends 31 % of its products on it, and
(B, T, V) logits would be its largest tensor.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt_kit.evaluation.loss import evaluation_mode
from gpt_kit.evaluation.token_trees import Request, TokenTree, grow_trees
from gpt_kit.model import GPTModel
from gpt_kit.runtime import Precision

ROW_TOKENS = 384  # in which trees stand side by side. Measured on two CPU cores: 256 and 512 take 5 to 10 % longer
BATCH_TOKENS = 2048  # measured on two CPU cores with GPT-2 124M: 1,024 are as fast, 8,192 a fifth slower
ROWS_PER_BLOCK = 512  # of logits: (512, 50,304) are 103 MB
ROWS_IN_CACHE = 16  # of their logarithms, 3 MB: they stay in a CPU's cache from one operation to the next
COLUMNS = 64  # logits are computed in multiples of it. Measured on two CPU cores, 512 rows: 88 GFLOP/s for V = 50,304, 64 for 50,257


@dataclass(frozen=True, slots=True)
class Score:
    """What a model says of one request."""

    log_likelihood: float
    """Sum of log p over the continuation's tokens, in nats: 0 or less."""
    is_greedy: bool
    """Each of them is the model's first choice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scorer:
    """A model that scores requests."""

    model: GPTModel
    precision: Precision
    batch_tokens: int = BATCH_TOKENS
    """Tokens read at a time, padding included; a longer row comes alone."""

    @property
    def context(self) -> int:
        """Tokens that the model can read before the last one it scores."""
        return self.model.config.max_position_embeddings

    def score(self, requests: Sequence[Request], progress: Callable[[int], None] = lambda _: None) -> list[Score]:
        """One score for each request, in their order. `progress` is called with the number of requests done.

        A text that is too long loses its beginning. Raises: InputError for a continuation longer than the context, or an empty one.
        """
        fitted = [request.fitted(self.context) for request in requests]
        scores: dict[int, Score] = {}
        with evaluation_mode(self.model):
            head = self._head()
            for rows in _batches(_rows(list(grow_trees(fitted)), min(ROW_TOKENS, self.batch_tokens)), self.batch_tokens):
                scores |= self._score_batch(rows, fitted, head)
                progress(len(scores))
        return [scores[number] for number in range(len(requests))]

    def _head(self) -> Tensor:
        """(V', C): the head's rows in the format of the products, and as many zeros as make a multiple of COLUMNS."""
        weight = self.model.head_weight
        return F.pad(weight.to(self.precision.autocast_dtype or weight.dtype), (0, 0, 0, -len(weight) % COLUMNS))

    def _score_batch(self, rows: Sequence[Sequence[TokenTree]], requests: Sequence[Request], head: Tensor) -> dict[int, Score]:
        tokens, ends, scored = _laid_out(rows)
        places = [place for _, found in scored for place in found]
        targets = [target for number, _ in scored for target in requests[number].continuation]
        is_causal = all(len(row) == 1 and row[0].is_one_branch for row in rows)
        ends_or_none = None if is_causal else ends.to(self.model.device)
        with self.precision.autocast():
            hidden = self.model.hidden_states(tokens.to(self.model.device), subtree_ends=ends_or_none).flatten(0, 1)
            log_probabilities, first_choices = score_targets(hidden, head, self.model.config.vocab_size, places, targets)
        scores, start = {}, 0
        for number, _ in scored:
            stop = start + len(requests[number].continuation)
            total, is_greedy = log_probabilities[start:stop].double().sum().item(), bool(first_choices[start:stop].all())
            scores[number], start = Score(total, is_greedy), stop
        return scores


def score_targets(hidden: Tensor, head: Tensor, vocab_size: int, places: Sequence[int], targets: Sequence[int]) -> tuple[Tensor, Tensor]:
    """log p of each target at its place in `hidden` (N, C), and whether no token is more probable: (P,) float32 and bool, on the CPU.

    A place that predicts several targets is computed once. Rows of `head` (V', C) from `vocab_size` on get no probability.
    """
    rows, row_of_target = torch.unique(torch.tensor(places), return_inverse=True)
    sorted_rows, order = row_of_target.sort()
    sorted_targets = torch.tensor(targets)[order].to(hidden.device)
    found, is_first = [], []
    step = ROWS_IN_CACHE if hidden.device.type == "cpu" else ROWS_PER_BLOCK
    for start in range(0, len(rows), ROWS_PER_BLOCK):
        logits = F.linear(hidden[rows[start : start + ROWS_PER_BLOCK].to(hidden.device)], head)  # (rows, V')
        logits[:, vocab_size:] = -torch.inf
        for begin in range(0, len(logits), step):
            log_probabilities = logits[begin : begin + step].float().log_softmax(dim=-1)
            first, last = torch.searchsorted(sorted_rows, torch.tensor([start + begin, start + begin + len(log_probabilities)])).tolist()
            local = (sorted_rows[first:last] - start - begin).to(hidden.device)
            of_target = log_probabilities[local, sorted_targets[first:last]]
            found.append(of_target)
            is_first.append(of_target == log_probabilities.amax(dim=-1)[local])
    back = order.argsort()
    return torch.cat(found).cpu()[back], torch.cat(is_first).cpu()[back]


def _rows(trees: Sequence[TokenTree], width: int) -> Iterator[list[TokenTree]]:
    """Trees side by side in rows with hardly a gap, the largest first, so that memory runs out at once or never."""
    left = sorted(trees, key=len)
    while left:
        row = [left.pop()]
        room = width - len(row[0])
        while fitting := bisect_right(left, room, key=len):
            row.append(left.pop(fitting - 1))
            room -= len(row[-1])
        yield row


def _batches(rows: Iterable[list[TokenTree]], batch_tokens: int) -> Iterator[list[list[TokenTree]]]:
    """As many rows at a time as make up to `batch_tokens` with their padding, or one."""
    batch: list[list[TokenTree]] = []
    width = 0
    for row in rows:
        width = max(width, sum(map(len, row)))
        if batch and (len(batch) + 1) * width > batch_tokens:
            yield batch
            batch, width = [], sum(map(len, row))
        batch.append(row)
    if batch:
        yield batch


def _laid_out(rows: Sequence[Sequence[TokenTree]]) -> tuple[Tensor, Tensor, list[tuple[int, list[int]]]]:
    """Tokens and ends (B, T) of trees that do not see one another, and each request's number with its places in (B·T).

    The padding on the right sees itself alone.
    """
    width = max(sum(map(len, row)) for row in rows)
    tokens, ends = torch.zeros(len(rows), width, dtype=torch.long), torch.arange(1, width + 1).repeat(len(rows), 1)
    scored = []
    for number, row in enumerate(rows):
        start = 0
        for tree in row:
            stop = start + len(tree)
            tokens[number, start:stop] = torch.tensor(tree.tokens)
            ends[number, start:stop] = torch.tensor(tree.ends) + start
            scored += [(request, [number * width + start + place for place in places]) for request, places in tree.scored.items()]
            start = stop
    return tokens, ends, scored
