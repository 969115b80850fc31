"""Instruction records -> padded batches, the small way; the whole of fine-tuning builds on chat formats instead.

The end token and padding are often one id (50256 in GPT-2). What is scored is therefore decided by position, never by value:
every target up to and including the first end token counts, and nothing after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gpt_kit.data.batches import IGNORED
from gpt_kit.errors import DataError
from gpt_kit.tokenizers import as_tokenizer

Record = Mapping[str, str]


class InstructionDataset(Dataset[list[int]]):
    """Item i is the ids of `format_fn(record)`, a response heading, and the record's `output`.

    `format_fn` writes the instruction and its input (Alpaca form, Taori et al. 2023). Raises: DataError naming the record.
    """

    def __init__(self, records: Sequence[Record], tokenizer: object, format_fn: Callable[[Record], str]) -> None:
        self.records = records
        kit_tokenizer = as_tokenizer(tokenizer)
        texts = []
        for i, record in enumerate(records):
            if "output" not in record:
                raise DataError(f"record {i} has no 'output' (its keys: {', '.join(record)}), so there is no answer to learn from")
            texts.append(f"{format_fn(record)}\n\n### Response:\n{record['output']}")
        self.encoded_texts = kit_tokenizer.encode_batch(texts)

    def __len__(self) -> int:
        return len(self.encoded_texts)

    def __getitem__(self, index: int) -> list[int]:
        return self.encoded_texts[index]


def create_instruction_collate_fn(
    pad_token_id: int = 50256, ignore_index: int = IGNORED, max_length: int | None = None, device: torch.device | str = "cpu"
) -> Callable[[Sequence[Sequence[int]]], tuple[Tensor, Tensor]]:
    """A collate function for a DataLoader: rows of ids -> inputs and targets (B, T), T the longest row.

    Each row is closed by one scored `pad_token_id` (the end token). Rows longer than `max_length` inputs are cut and then have no
    end token: a cut answer must not teach the model to stop there.
    """

    def collate(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        closed = [[*row, pad_token_id][: None if max_length is None else max_length + 1] for row in rows]
        width = max(len(row) for row in closed) - 1
        inputs = torch.full((len(rows), width), pad_token_id)
        targets = torch.full((len(rows), width), ignore_index)
        for i, row in enumerate(closed):
            inputs[i, : len(row) - 1] = torch.tensor(row[:-1])
            targets[i, : len(row) - 1] = torch.tensor(row[1:])
        return inputs.to(device), targets.to(device)

    return collate
