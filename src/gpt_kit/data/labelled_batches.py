"""Labelled texts -> batches with little padding.

Every epoch goes through all texts once, in a new order. That order is cut into pools of POOL_BATCHES batches; inside a pool texts are
sorted by length, so that those of one batch are alike, and then the batches of the epoch are shuffled. Batch number n is a pure
function of (seed, n), as in pre-training: a run resumes by its number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt_kit.data.batches import IGNORED, Batch
from gpt_kit.data.labelled import LabelledTexts
from gpt_kit.data.order import shuffled_indices
from gpt_kit.errors import DataError
from gpt_kit.tokenizers import Tokenizer

POOL_BATCHES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledBatch(Batch):
    """A batch of texts, one a row, filled up on the right; `targets` are those of the language model."""

    labels: Tensor
    """(B,), int64: each text's label, IGNORED where a row does not count."""
    last: Tensor
    """(B,), int64: the place of each text's last token."""

    def rows(self, chosen: slice | Tensor) -> LabelledBatch:
        """Some of its rows, no wider than they have to be."""
        last = self.last[chosen]
        width = int(last.max()) + 1
        return LabelledBatch(self.inputs[chosen, :width], self.targets[chosen, :width], labels=self.labels[chosen], last=last)

    def unscored(self) -> LabelledBatch:
        """The same reading, of which nothing counts."""
        targets, labels = torch.full_like(self.targets, IGNORED), torch.full_like(self.labels, IGNORED)
        return LabelledBatch(self.inputs, targets, labels=labels, last=self.last)

    def to(self, device: torch.device) -> LabelledBatch:
        """The same batch on another device."""
        inputs, targets, labels, last = (part.to(device) for part in (self.inputs, self.targets, self.labels, self.last))
        return LabelledBatch(inputs, targets, labels=labels, last=last)


class LabelledIds:
    """Labelled texts as ids, of which the first `max_length` of each are kept, the tokenizer's closing token included.

    Raises: DataError for texts without any token, by their places.
    """

    def __init__(self, data: LabelledTexts, tokenizer: Tokenizer, max_length: int) -> None:
        encoded = tokenizer.encode_batch(data.texts)
        if empty := [place for place, ids in zip(data.places, encoded, strict=True) if not ids]:
            raise DataError(f"{empty[0]}: the tokenizer leaves nothing of this text ({len(empty)} such texts). Take them out")
        closing = [] if tokenizer.closing_token is None else [tokenizer.special_tokens[tokenizer.closing_token]]
        room = max_length - len(closing)
        self.ids = [ids[:room] + closing for ids in encoded]
        self.labels = np.array(data.labels, dtype=np.int64)
        self.lengths = np.array([len(ids) for ids in self.ids], dtype=np.int64)
        self.num_cut = sum(len(ids) > room for ids in encoded)
        """Texts that lost their end."""
        self.after_last = tokenizer.end_of_text_id if tokenizer.end_of_text_id is not None and not closing else IGNORED
        """What the language model learns to expect behind the last token; IGNORED for nothing."""

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, chosen: Sequence[int] | NDArray[np.int64], pad_token_id: int, width: int = 0) -> LabelledBatch:
        """These texts, `width` tokens wide or more. The language model learns each one's next tokens, and that it ends."""
        width = max(width, int(self.lengths[chosen].max()))
        inputs, targets = torch.full((len(chosen), width), pad_token_id), torch.full((len(chosen), width), IGNORED)
        for row, number in enumerate(chosen):
            ids = torch.tensor(self.ids[number])
            inputs[row, : len(ids)] = ids
            targets[row, : len(ids) - 1], targets[row, len(ids) - 1] = ids[1:], self.after_last
        labels, last = torch.from_numpy(self.labels[chosen]), torch.from_numpy(self.lengths[chosen] - 1)
        return LabelledBatch(inputs, targets, labels=labels, last=last)


class LabelledBatches:
    """The endless sequence of training batches. An epoch is a whole number of batches, as even in size as can be."""

    def __init__(self, data: LabelledIds, *, batch_size: int, pad_token_id: int, seed: int) -> None:
        self.data, self.batch_size, self.pad_token_id, self.seed = data, batch_size, pad_token_id, seed
        self.batches_per_epoch = -(-len(data) // batch_size)

    @property
    def tokens_per_batch(self) -> int:
        """Tokens of an average batch, without padding."""
        return round(int(self.data.lengths.sum()) / self.batches_per_epoch)

    def epoch_of(self, number: int) -> float:
        """How often every text has been seen when `number` batches are done."""
        return number / self.batches_per_epoch

    def batch(self, number: int, rank: int = 0, size: int = 1) -> LabelledBatch:
        """Batch `number`, or what process `rank` of `size` takes of it: all take equally many, where some are wanting of no account."""
        chosen = self._chosen(number)
        taken = np.arange(rank, size * -(-len(chosen) // size), size)  # every size-th, so that all get short and long ones
        width = int(self.data.lengths[chosen].max())  # everybody's, for the width decides how many micro-batches there are
        batch = self.data.batch(chosen[np.minimum(taken, len(chosen) - 1)], self.pad_token_id, width)
        wanting = torch.from_numpy(taken >= len(chosen))
        batch.targets[wanting], batch.labels[wanting] = IGNORED, IGNORED
        return batch

    def _chosen(self, number: int) -> NDArray[np.int64]:
        epoch = number // self.batches_per_epoch
        place = int(shuffled_indices(np.array([number]), self.batches_per_epoch, self.seed)[0])
        pool, place = divmod(place, POOL_BATCHES)
        start = pool * POOL_BATCHES * self.batch_size
        stop = min(start + POOL_BATCHES * self.batch_size, len(self.data))
        members = shuffled_indices(np.arange(start, stop) + epoch * len(self.data), len(self.data), self.seed)
        alike = members[np.argsort(self.data.lengths[members], kind="stable")]
        return np.array_split(alike, -(-len(alike) // self.batch_size))[place]


class LabelledEvaluation:
    """All texts once, the shortest first."""

    def __init__(self, data: LabelledIds, *, batch_size: int, pad_token_id: int) -> None:
        self.data, self.batch_size, self.pad_token_id = data, batch_size, pad_token_id
        self.order = np.argsort(data.lengths, kind="stable")
        """Of the texts as they come, their numbers in the data."""

    def __len__(self) -> int:
        return -(-len(self.data) // self.batch_size)

    def __iter__(self) -> Iterator[LabelledBatch]:
        for start in range(0, len(self.data), self.batch_size):
            yield self.data.batch(self.order[start : start + self.batch_size], self.pad_token_id)
