"""Log-likelihoods of continuations, many at a time.

requests -> trees of those that begin alike -> batches of trees of like size -> hidden states -> log-probabilities where a token is
scored, and nowhere else. The head is the dearest layer of a small GPT: GPT-2 124M spends 31 % of its products on it, and
(B, T, V) logits would be its largest tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt_kit.evaluation.loss import evaluation_mode
from gpt_kit.evaluation.token_trees import Request, TokenTree, grow_trees
from gpt_kit.model import GPTModel
from gpt_kit.runtime import Precision

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
    """Tokens read at a time, padding included; a longer tree comes alone."""

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
            for trees in _batches(list(grow_trees(fitted)), self.batch_tokens):
                scores |= self._score_batch(trees, fitted, head)
                progress(len(scores))
        return [scores[number] for number in range(len(requests))]

    def _head(self) -> Tensor:
        """(V', C): the head's rows in the format of the products, and as many zeros as make a multiple of COLUMNS."""
        weight = self.model.head_weight
        return F.pad(weight.to(self.precision.autocast_dtype or weight.dtype), (0, 0, 0, -len(weight) % COLUMNS))

    def _score_batch(self, trees: list[TokenTree], requests: Sequence[Request], head: Tensor) -> dict[int, Score]:
        tokens, ends = _padded(trees)
        places = [row * tokens.shape[1] + place for row, tree in enumerate(trees) for found in tree.scored.values() for place in found]
        numbers = [number for tree in trees for number in tree.scored]
        targets = [target for number in numbers for target in requests[number].continuation]
        ends_or_none = None if all(tree.is_one_branch for tree in trees) else ends.to(self.model.device)
        with self.precision.autocast():
            hidden = self.model.hidden_states(tokens.to(self.model.device), subtree_ends=ends_or_none).flatten(0, 1)
            log_probabilities, first_choices = score_targets(hidden, head, self.model.config.vocab_size, places, targets)
        scores, start = {}, 0
        for number in numbers:
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


def _batches(trees: list[TokenTree], batch_tokens: int) -> Iterator[list[TokenTree]]:
    """Trees of like size together, the largest first, so that memory runs out at once or never."""
    batch: list[TokenTree] = []
    for tree in sorted(trees, key=lambda tree: -len(tree.tokens)):
        if batch and (len(batch) + 1) * len(batch[0].tokens) > batch_tokens:
            yield batch
            batch = []
        batch.append(tree)
    if batch:
        yield batch


def _padded(trees: list[TokenTree]) -> tuple[Tensor, Tensor]:
    """Tokens and ends (B, T), padded on the right with tokens that see themselves alone and that nothing sees."""
    length = max(len(tree.tokens) for tree in trees)
    padding = list(range(1, length + 1))
    tokens = torch.tensor([[*tree.tokens, *[0] * (length - len(tree.tokens))] for tree in trees])
    return tokens, torch.tensor([[*tree.ends, *padding[len(tree.ends) :]] for tree in trees])
