"""Sliding windows over one text in memory, for torch's own DataLoader: the small door to pre-training.

For a corpus on disk there are shards and `TrainingBatches`, which resume; this is for notebooks, examples and tests.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gpt_kit.data.batches import check_long_enough
from gpt_kit.errors import DataError
from gpt_kit.tokenizers import Tokenizer, as_tokenizer, load_tokenizer

SEPARATOR = "<|endoftext|>"


class GPTPretrainingDataset(Dataset[tuple[Tensor, Tensor]]):
    """Window i is (tokens[i·stride : i·stride + T], the same one token later), T = max_length.

    `unused_tokens` says how many at the end fill no window. Where the text holds `<|endoftext|>`, documents are separated by
    the tokenizer's own end token. Raises: DataError when the text is shorter than one window.
    """

    def __init__(self, text: str, tokenizer: object, max_length: int, stride: int) -> None:
        if max_length < 1 or stride < 1:
            raise DataError(f"max_length and stride must be at least 1; got {max_length} and {stride}")
        self.token_ids = torch.tensor(encode_documents(text, as_tokenizer(tokenizer)), dtype=torch.long)
        check_long_enough(len(self.token_ids), max_length, "the text")
        self.max_length, self.stride = max_length, stride
        self.starts = range(0, len(self.token_ids) - max_length, stride)
        self.unused_tokens = len(self.token_ids) - 1 - (self.starts[-1] + max_length)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        window = self.token_ids[self.starts[index] : self.starts[index] + self.max_length + 1]
        return window[:-1], window[1:]


def create_pretraining_dataloader(
    text: str,
    batch_size: int = 4,
    max_length: int = 256,
    stride: int = 128,
    shuffle: bool = True,
    drop_last: bool = True,
    num_workers: int = 0,
    tokenizer: object | None = None,
) -> DataLoader[tuple[Tensor, Tensor]]:
    """A DataLoader of (input, target) batches, each (batch_size, max_length); GPT-2's tokenizer unless another is given.

    Raises: DataError when the text does not fill one window, or (with drop_last) not one batch.
    """
    if batch_size < 1:
        raise DataError(f"batch_size must be at least 1; got {batch_size}")
    dataset = GPTPretrainingDataset(text, tokenizer or load_tokenizer("gpt2"), max_length, stride)
    if drop_last and len(dataset) < batch_size:
        raise DataError(
            f"the text makes {len(dataset)} windows of {max_length} tokens, fewer than one batch of {batch_size}. "
            "Lower batch_size, max_length or stride, or pass drop_last=False"
        )
    return DataLoader(dataset, batch_size=batch_size, shuffle=shuffle, drop_last=drop_last, num_workers=num_workers)


def encode_documents(text: str, tokenizer: Tokenizer) -> list[int]:
    """The ids of `text`, with the end token wherever `<|endoftext|>` separates documents (if the tokenizer has one)."""
    if tokenizer.end_of_text_id is None:
        return tokenizer.encode(text)
    ids: list[int] = []
    for i, document in enumerate(text.split(SEPARATOR)):
        if i:
            ids.append(tokenizer.end_of_text_id)
        ids.extend(tokenizer.encode(document))
    return ids
