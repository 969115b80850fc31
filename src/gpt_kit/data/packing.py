"""Examples of unequal length -> batches with hardly any padding.

A batch is `batch_size` examples, as it would be one example a row. They are laid into few rows, one behind the other; each example
keeps positions and attention to itself, so that the update is the same however they lie. Batch number n is a pure function of
(seed, n), as in pre-training: a run resumes by its number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gpt_kit.data.batches import IGNORED, Batch
from gpt_kit.data.order import shuffled_indices

ROW_TOKENS = 512  # rows of short examples are at most so wide: attention, which reads across them in vain, stays cheap
LAYOUTS = 8  # tried for each batch; the one with the least padding is taken


@dataclass(frozen=True, slots=True)
class Example:
    """ids (L,), and for each whether it is learned from (L,); `source` says where it comes from."""

    ids: list[int]
    trained: list[bool]
    source: str = ""

    @property
    def num_trained(self) -> int:
        """Tokens that count in the loss; the first cannot, for nothing stands before it."""
        return sum(self.trained[1:])


class ExampleBatches:
    """The endless sequence of training batches over `examples`, each once an epoch in a new order."""

    def __init__(self, examples: Sequence[Example], *, batch_size: int, max_length: int, seed: int) -> None:
        self.examples, self.batch_size, self.max_length, self.seed = examples, batch_size, max_length, seed

    @property
    def tokens_per_batch(self) -> int:
        """Tokens of an average batch."""
        return round(sum(len(example.ids) for example in self.examples) / len(self.examples) * self.batch_size)

    def epoch_of(self, number: int) -> float:
        """How often every example has been seen when `number` batches are done."""
        return number * self.batch_size / len(self.examples)

    def batch(self, number: int, rank: int = 0, size: int = 1) -> Batch:
        """Batch `number`, or the rows of it that process `rank` of `size` takes: all have equally many, some may score nothing."""
        positions = np.arange(number * self.batch_size, (number + 1) * self.batch_size)
        chosen = [self.examples[i] for i in shuffled_indices(positions, len(self.examples), self.seed).tolist()]
        whole = packed(chosen, self.max_length)
        if size == 1:
            return whole
        rows = -(-len(whole.inputs) // size)
        row = torch.arange(rank * rows, (rank + 1) * rows)
        share = whole.rows(row.clamp(max=len(whole.inputs) - 1))
        share.targets[row >= len(whole.inputs)] = IGNORED
        return share


class ExampleEvaluation:
    """All examples once, the longest first, so that rows of one batch are alike."""

    def __init__(self, examples: Sequence[Example], *, batch_size: int, max_length: int) -> None:
        self.examples = sorted(examples, key=lambda example: -len(example.ids))
        self.batch_size, self.max_length = batch_size, max_length

    def __len__(self) -> int:
        return -(-len(self.examples) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.examples), self.batch_size):
            yield packed(self.examples[start : start + self.batch_size], self.max_length)


def packed(examples: Sequence[Example], max_length: int) -> Batch:
    """The examples in rows of one width, at most `max_length` inputs. Each takes len(ids) - 1 places, its last id being a target only."""
    rows = min((_first_fit(examples, width) for width in _widths(examples, max_length)), key=lambda rows: len(rows) * _width(rows))
    width = _width(rows)
    inputs = torch.zeros(len(rows), width, dtype=torch.long)
    targets = torch.full((len(rows), width), IGNORED)
    document_ids = torch.full((len(rows), width), len(examples))  # what is left of a row is a document of its own, that scores nothing
    for r, row in enumerate(rows):
        start = 0
        for number, example in enumerate(row):
            place = slice(start, start + len(example.ids) - 1)
            ids, trained = torch.tensor(example.ids), torch.tensor(example.trained)
            inputs[r, place] = ids[:-1]
            targets[r, place] = torch.where(trained[1:], ids[1:], IGNORED)
            document_ids[r, place] = number
            start = place.stop
    alone = all(len(row) == 1 for row in rows)  # nothing looks ahead, so padding behind needs no mask
    return Batch(inputs, targets, None if alone else document_ids)


def _widths(examples: Sequence[Example], max_length: int) -> list[int]:
    """Widths worth trying: the examples dealt evenly to one row, to two, and so on, within ROW_TOKENS unless one alone is longer."""
    places = [len(example.ids) - 1 for example in examples]
    longest = max(places)
    even = {max(longest, -(-sum(places) // rows)) for rows in range(1, len(places) + 1)}
    widest = max(longest, min(ROW_TOKENS, max_length))
    return sorted({min(width, widest) for width in even}, reverse=True)[:LAYOUTS]


def _width(rows: list[list[Example]]) -> int:
    return max(sum(len(example.ids) - 1 for example in row) for row in rows)


def _first_fit(examples: Sequence[Example], width: int) -> list[list[Example]]:
    """Rows of at most `width` places: the longest example first, each into the first row that has room (Johnson 1973)."""
    rows: list[list[Example]] = []
    room: list[int] = []
    for example in sorted(examples, key=lambda example: -len(example.ids)):
        places = len(example.ids) - 1
        fitting = next((i for i, free in enumerate(room) if free >= places), None)
        if fitting is None:
            rows.append([])
            room.append(width)
            fitting = len(rows) - 1
        rows[fitting].append(example)
        room[fitting] -= places
    return rows
