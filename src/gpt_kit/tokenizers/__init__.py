"""Text <-> ids: GPT-2, GPT-1, trained byte-pair encoding, characters, bytes; and messages -> ids.

The libraries behind them (tiktoken, tokenizers) are imported when a tokenizer is made, not here.
"""

from gpt_kit.tokenizers.base import END_OF_TEXT, Fertility, Tokenizer, check_same_tokenizer, measure_fertility
from gpt_kit.tokenizers.chat import ASSISTANT, USER, ChatIds, Message, chat_tokenizer, check_chat_tokenizer, check_messages, render_chat
from gpt_kit.tokenizers.load import as_tokenizer, load_tokenizer
from gpt_kit.tokenizers.train import train_tokenizer

__all__ = [
    "ASSISTANT",
    "END_OF_TEXT",
    "USER",
    "ChatIds",
    "Fertility",
    "Message",
    "Tokenizer",
    "as_tokenizer",
    "chat_tokenizer",
    "check_chat_tokenizer",
    "check_messages",
    "check_same_tokenizer",
    "load_tokenizer",
    "measure_fertility",
    "render_chat",
    "train_tokenizer",
]
