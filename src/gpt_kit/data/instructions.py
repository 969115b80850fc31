"""Instruction records -> padded batches, the small way; the whole of fine-tuning builds on chat formats instead.

The end token and padding are often one id (50256 in GPT-2). What is scored is therefore decided by position, never by value:
every target up to and including the first end token counts, and nothing after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gpt_kit.data.batches import IGNORED
from gpt_kit.errors import DataError
from gpt_kit.tokenizers import as_tokenizer

Record = Mapping[str, str]


class InstructionIds(list[int]):
    """The ids of one record, which remember where its answer begins, so that nobody cuts it away unnoticed."""

    def __init__(self, ids: Iterable[int], record: int, answer_start: int) -> None:
        super().__init__(ids)
        self.record = record
        self.answer_start = answer_start


class InstructionDataset(Dataset[InstructionIds]):
    """Item i is the ids of `format_fn(record)`, a response heading, and the record's `output`.

    `format_fn` writes the instruction and its input (Alpaca form, Taori et al. 2023). Raises: DataError naming the record.
    """

    def __init__(self, records: Sequence[Record], tokenizer: object, format_fn: Callable[[Record], str]) -> None:
        self.records = records
        kit_tokenizer = as_tokenizer(tokenizer)
        if not len(records):
            raise DataError("there are no records, so there is nothing to learn from")
        answers = [_answer(i, record) for i, record in enumerate(records)]
        openings = [f"{format_fn(record)}\n\n### Response:\n" for record in records]
        wholes = kit_tokenizer.encode_batch([opening + answer for opening, answer in zip(openings, answers, strict=True)])
        self.encoded_texts = [
            InstructionIds(whole, i, _length_in_common(whole, opening))
            for i, (whole, opening) in enumerate(zip(wholes, kit_tokenizer.encode_batch(openings), strict=True))
        ]

    def __len__(self) -> int:
        return len(self.encoded_texts)

    def __getitem__(self, index: int) -> InstructionIds:
        return self.encoded_texts[index]


def _length_in_common(a: Sequence[int], b: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _answer(number: int, record: object) -> str:
    if not isinstance(record, Mapping):
        raise DataError(f"record {number} is a {type(record).__name__}; expected a dictionary with the key 'output'")
    if "output" not in record:
        keys = ", ".join(map(str, record))
        raise DataError(f"record {number} has no 'output' (its keys: {keys}), so there is no answer to learn from")
    answer = record["output"]
    if not isinstance(answer, str):
        raise DataError(f"record {number}: its 'output' is {answer!r}; expected the text of the answer")
    return answer


def create_instruction_collate_fn(
    pad_token_id: int = 50256, ignore_index: int = IGNORED, max_length: int | None = None, device: torch.device | str = "cpu"
) -> Callable[[Sequence[Sequence[int]]], tuple[Tensor, Tensor]]:
    """A collate function for a DataLoader: rows of ids -> inputs and targets (B, T), T the longest row.

    Each row is closed by one scored `pad_token_id` (the end token). Rows longer than `max_length` inputs are cut and then have no
    end token: a cut answer must not teach the model to stop there. Raises: DataError, when called, for no rows at all, and for rows
    of an InstructionDataset that would keep nothing of their answer, by the numbers of their records.
    """
    if max_length is not None and max_length < 1:
        raise DataError(f"max_length must be at least 1; got {max_length}")

    def collate(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        if not len(rows):
            raise DataError("a batch without rows cannot be made; give it at least one")
        if max_length is not None:
            _check_answers_survive(rows, max_length)
        closed = [[*row, pad_token_id][: None if max_length is None else max_length + 1] for row in rows]
        width = max(len(row) for row in closed) - 1
        inputs = torch.full((len(rows), width), pad_token_id)
        targets = torch.full((len(rows), width), ignore_index)
        for i, row in enumerate(closed):
            inputs[i, : len(row) - 1] = torch.tensor(row[:-1])
            targets[i, : len(row) - 1] = torch.tensor(row[1:])
        return inputs.to(device), targets.to(device)

    return collate


def _check_answers_survive(rows: Sequence[Sequence[int]], max_length: int) -> None:
    lost = [row for row in rows if isinstance(row, InstructionIds) and row.answer_start > max_length]
    if lost:
        records = ", ".join(str(row.record) for row in lost)
        raise DataError(
            f"max_length {max_length} cuts the whole answer away from record {records}: only the instruction would be learned. "
            f"Make it at least {max(row.answer_start for row in lost)}, or leave out the rows whose answer_start is above it"
        )
