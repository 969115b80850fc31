"""Ids -> more ids -> text: sampling, the generator with and without a KV cache, and small helpers for notebooks."""

from gpt_kit.generation.generate import (
    encode_prompt,
    generate_ids,
    generate_text,
    generate_text_autoregressive,
    stream_text,
    text_to_token_ids,
    token_ids_to_text,
)
from gpt_kit.generation.sampling import Sampling

__all__ = [
    "Sampling",
    "encode_prompt",
    "generate_ids",
    "generate_text",
    "generate_text_autoregressive",
    "stream_text",
    "text_to_token_ids",
    "token_ids_to_text",
]
