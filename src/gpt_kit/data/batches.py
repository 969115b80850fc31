"""Windows over a long row of ids, and the endless sequence of batches made of them.

A window is T + 1 ids: the inputs are all but the last, the targets all but the first. Batch number n of a run is a pure function of
(seed, n): a run that resumes asks for the next number and has lost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt_kit.data.order import random_numbers, shuffled_indices
from gpt_kit.data.shards import TokenArray
from gpt_kit.errors import DataError

WindowOrder = Literal["shuffled", "random"]
IGNORED = -100  # torch's mark for a target that is not scored


@dataclass(frozen=True, slots=True)
class Batch:
    """inputs and targets (B, T), int64; document_ids (B, T) where packed documents are kept apart."""

    inputs: Tensor
    targets: Tensor
    document_ids: Tensor | None = None

    @property
    def num_scored(self) -> int:
        """Targets that count in the loss."""
        return int((self.targets != IGNORED).sum())

    def split(self, rows: int) -> list[Batch]:
        """Micro-batches of at most `rows` rows."""
        return [self.rows(slice(start, start + rows)) for start in range(0, len(self.inputs), rows)]

    def rows(self, chosen: slice | Tensor) -> Batch:
        """Some of its rows."""
        parts = (self.inputs, self.targets, self.document_ids)
        return Batch(*(None if part is None else part[chosen] for part in parts))  # type: ignore[arg-type]

    def unscored(self) -> Batch:
        """The same reading, of which no target counts."""
        return Batch(self.inputs, torch.full_like(self.targets, IGNORED), self.document_ids)

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        move = [None if t is None else t.to(device) for t in (self.inputs, self.targets, self.document_ids)]
        return Batch(*move)  # type: ignore[arg-type]


class Batches(Protocol):
    """A fixed number of batches, the same each time they are gone through."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


class BatchSequence(Protocol):
    """The endless sequence of batches that a run trains on: a function of the batch's number, so that a run can stop anywhere."""

    @property
    def tokens_per_batch(self) -> int:
        """Tokens read for one batch, on average."""

    def epoch_of(self, number: int) -> float:
        """How often the data have been seen when `number` batches are done."""

    def batch(self, number: int, rank: int = 0, size: int = 1) -> Batch:
        """Batch `number`, or process `rank`'s share of it."""


def check_long_enough(num_tokens: int, length: int, what: str) -> None:
    """Raises: DataError where not even one window fits."""
    if num_tokens < length + 1:
        raise DataError(
            f"{what} has {num_tokens} tokens, but one window needs {length + 1} (a context of {length} and the token after it). "
            "Give it more text, or make the context shorter (--model.max-position-embeddings)"
        )


class TrainingBatches:
    """The endless sequence of training batches over `tokens`.

    Shuffled: windows start every `stride` ids, the last one flush with the end so that no token is left out; each window comes once
    an epoch. Random: every start is drawn anew; an epoch is then as many windows as it takes to draw len(tokens) targets.
    """

    def __init__(
        self,
        tokens: TokenArray,
        *,
        length: int,
        batch_size: int,
        seed: int,
        stride: int = 0,
        order: WindowOrder = "shuffled",
        document_separator: int | None = None,
    ) -> None:
        check_long_enough(len(tokens), length, "the training text")
        self.tokens, self.length, self.batch_size, self.seed = tokens, length, batch_size, seed
        self.stride, self.order, self.document_separator = stride or length, order, document_separator
        if self.stride > length:
            raise DataError(f"a stride of {stride} over windows of {length} tokens would leave tokens between them unread; make it smaller")
        self.num_starts = len(tokens) - length  # every place where a window fits

    @property
    def windows_per_epoch(self) -> int:
        """Windows that see every token once (a stride below the context: more often)."""
        step = self.length if self.order == "random" else self.stride
        return -(-(self.num_starts - 1) // step) + 1

    def epoch_of(self, number: int) -> float:
        """How often the text has been seen when `number` batches are done."""
        return number * self.batch_size / self.windows_per_epoch

    @property
    def tokens_per_batch(self) -> int:
        """Tokens read from the text for one batch."""
        return self.batch_size * self.length

    def batch(self, number: int, rank: int = 0, size: int = 1) -> Batch:
        """Batch `number` (0, 1, …) of the run or, of `size` processes, the rows that process `rank` takes of it.

        Shares lie one after the other and are equally tall: where rows are wanting, the last ones are repeated and score nothing.
        """
        rows = -(-self.batch_size // size)
        row = np.arange(rank * rows, (rank + 1) * rows)
        positions = number * self.batch_size + np.minimum(row, self.batch_size - 1)
        if self.order == "random":
            starts = random_numbers(positions, self.num_starts, self.seed)
        else:
            starts = np.minimum(shuffled_indices(positions, self.windows_per_epoch, self.seed) * self.stride, self.num_starts - 1)
        windows = np.stack([self.tokens.read(int(start), self.length + 1) for start in starts])
        batch = make_batch(windows, self.document_separator)
        batch.targets[torch.from_numpy(row >= self.batch_size)] = IGNORED
        return batch


class EvaluationBatches:
    """A text from its beginning, every token but the first scored exactly once.

    Windows overlap by `length - stride`; a token is scored in the first window that holds it, so that with a stride below the
    context each is predicted from at least `length - stride` tokens before it (Press et al. 2021, section 2). `max_tokens` limits the
    scored tokens to a fixed first part.
    """

    def __init__(
        self,
        tokens: TokenArray,
        *,
        length: int,
        batch_size: int,
        stride: int = 0,
        max_tokens: int = 0,
        document_separator: int | None = None,
    ) -> None:
        if len(tokens) < 2:
            raise DataError(f"the validation text has {len(tokens)} tokens; at least 2 are needed. Give it more text")
        self.tokens, self.length, self.batch_size, self.stride = tokens, length, batch_size, stride or length
        if self.stride > length:
            raise DataError(
                f"a stride of {stride} over windows of {length} tokens would leave tokens between them unscored; make it smaller"
            )
        self.num_targets = min(len(tokens) - 1, max_tokens or len(tokens))
        self.document_separator = document_separator

    def __len__(self) -> int:
        windows = 1 + max(0, -(-(self.num_targets - self.length) // self.stride))
        return -(-windows // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        rows: list[NDArray[np.int64]] = []
        scored_until = 0  # targets before this one are done
        start = 0
        while scored_until < self.num_targets:
            end = min(start + self.length, self.num_targets)
            window = np.full(self.length + 1, IGNORED)
            window[: end - start + 1] = self.tokens.read(start, end - start + 1)
            window_targets = window[1:].copy()
            window_targets[: scored_until - start] = IGNORED
            rows.append(np.concatenate((window[:-1], window_targets)))
            scored_until, start = end, start + self.stride
            if len(rows) == self.batch_size or scored_until == self.num_targets:
                yield self._batch(np.stack(rows))
                rows = []

    def _batch(self, rows: NDArray[np.int64]) -> Batch:
        inputs, targets = rows[:, : self.length], rows[:, self.length :]
        inputs = np.where(inputs == IGNORED, 0, inputs)  # past the end of the text; causal, so no scored token sees it
        return _with_documents(torch.from_numpy(inputs), torch.from_numpy(targets.copy()), self.document_separator)


def make_batch(windows: NDArray[np.int64], document_separator: int | None = None) -> Batch:
    """(B, T + 1) ids -> inputs and targets (B, T)."""
    block = torch.from_numpy(windows)
    return _with_documents(block[:, :-1].contiguous(), block[:, 1:].contiguous(), document_separator)


def _with_documents(inputs: Tensor, targets: Tensor, separator: int | None) -> Batch:
    # A separator opens the document after it, as <|endoftext|> does for GPT-2: the first word is predicted from it alone.
    return Batch(inputs, targets, None if separator is None else (inputs == separator).cumsum(dim=1))
