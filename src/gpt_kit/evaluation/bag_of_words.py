"""What a text's words alone say about its label: logistic regression over word counts, the baseline that a classifier has to beat.

Words are lower-cased runs of letters and digits, of two characters or more (scikit-learn's CountVectorizer as it comes); minimised is
½ ‖w‖² + C · Σ cross-entropy (scikit-learn's LogisticRegression), by L-BFGS. It learns in a second.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

WORD = re.compile(r"\b\w\w+\b")
INVERSE_REGULARISATION = 1.0  # C, scikit-learn's default
MOST_ITERATIONS = 1000
LINE_SEARCH = "strong_wolfe"
Bags = tuple[Tensor, Tensor]
"""The words of all texts by number, and where each text begins."""


class BagOfWords:
    """A classifier that knows how often a word occurs, and nothing of order."""

    def __init__(
        self, texts: Sequence[str], labels: Sequence[int], num_labels: int, inverse_regularisation: float = INVERSE_REGULARISATION
    ) -> None:
        words = sorted({word for text in texts for word in words_of(text)})
        self.vocabulary = {word: number for number, word in enumerate(words)}
        self.weight = torch.zeros(len(words) + 1, num_labels, dtype=torch.float64)
        """(words + 1, N): what a word adds to each label's logit; the last row is the bias, a word that every text has once."""
        self._fit(self._bags(texts), torch.tensor(labels), inverse_regularisation)

    def __call__(self, texts: Sequence[str]) -> list[int]:
        """The most probable label of each text."""
        answers: list[int] = _logits(self._bags(texts), self.weight).argmax(dim=1).tolist()
        return answers

    def _bags(self, texts: Sequence[str]) -> Bags:
        known = [[self.vocabulary[word] for word in words_of(text) if word in self.vocabulary] for text in texts]
        bags = [[*words, len(self.vocabulary)] for words in known]
        starts = torch.tensor([0, *map(len, bags)]).cumsum(dim=0)[:-1]
        return torch.tensor([word for bag in bags for word in bag]), starts

    def _fit(self, bags: Bags, labels: Tensor, inverse_regularisation: float) -> None:
        # Of two labels the first one's logit stays 0, so that the penalty is the usual one of a single vector.
        first = 1 if self.weight.shape[1] == 2 else 0
        free = self.weight[:, first:].clone().requires_grad_()
        optimizer = torch.optim.LBFGS(
            [free], max_iter=MOST_ITERATIONS, tolerance_grad=1e-6, tolerance_change=1e-12, line_search_fn=LINE_SEARCH
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            logits = F.pad(_logits(bags, free), (first, 0))
            loss = free[:-1].square().sum() / 2 + inverse_regularisation * F.cross_entropy(logits, labels, reduction="sum")
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        self.weight[:, first:] = free.detach()


def words_of(text: str) -> list[str]:
    """The words that count."""
    return WORD.findall(text.lower())


def _logits(bags: Bags, weight: Tensor) -> Tensor:
    """(texts, N): the sum of the rows of `weight` over each text's words."""
    words, starts = bags
    return F.embedding_bag(words, weight, starts, mode="sum")
