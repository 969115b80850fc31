"""Ids -> more ids -> text: sampling, the engine and the plain loop, streams, chats, and small helpers for notebooks."""

from gpt_kit.generation.chat import Chat
from gpt_kit.generation.engine import Engine
from gpt_kit.generation.generate import generate_ids, generate_text_autoregressive, text_to_token_ids, token_ids_to_text
from gpt_kit.generation.request import Event, Request, TokenScore
from gpt_kit.generation.sampling import GREEDY, Sampling
from gpt_kit.generation.streaming import TextStream, encode_prompt, generate_text, stream_text, text_of

__all__ = [
    "GREEDY",
    "Chat",
    "Engine",
    "Event",
    "Request",
    "Sampling",
    "TextStream",
    "TokenScore",
    "encode_prompt",
    "generate_ids",
    "generate_text",
    "generate_text_autoregressive",
    "stream_text",
    "text_of",
    "text_to_token_ids",
    "token_ids_to_text",
]
