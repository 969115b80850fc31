"""Ids -> more ids -> text: sampling, the generator with and without a KV cache, streams, chats, and small helpers for notebooks."""

from gpt_kit.generation.chat import Chat
from gpt_kit.generation.generate import generate_ids, generate_text_autoregressive, text_to_token_ids, token_ids_to_text
from gpt_kit.generation.sampling import Sampling
from gpt_kit.generation.streaming import encode_prompt, generate_text, stream_text, text_of

__all__ = [
    "Chat",
    "Sampling",
    "encode_prompt",
    "generate_ids",
    "generate_text",
    "generate_text_autoregressive",
    "stream_text",
    "text_of",
    "text_to_token_ids",
    "token_ids_to_text",
]
