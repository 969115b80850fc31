"""Text <-> ids: GPT-2, GPT-1, trained byte-pair encoding, characters, bytes.

The libraries behind them (tiktoken, tokenizers) are imported when a tokenizer is made, not here.
"""

from gpt_kit.tokenizers.base import END_OF_TEXT, Fertility, Tokenizer, check_same_tokenizer, measure_fertility
from gpt_kit.tokenizers.load import as_tokenizer, load_tokenizer
from gpt_kit.tokenizers.train import train_tokenizer

__all__ = [
    "END_OF_TEXT",
    "Fertility",
    "Tokenizer",
    "as_tokenizer",
    "check_same_tokenizer",
    "load_tokenizer",
    "measure_fertility",
    "train_tokenizer",
]
