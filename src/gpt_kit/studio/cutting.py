"""Ids -> the text that each of them brings.

A token may end inside a character (a byte of three, say). Such a token brings no text yet; the one that completes the character brings
all of it. So the pieces of a text, put together, are the text.
"""

from __future__ import annotations

from collections.abc import Sequence

from gpt_kit.tokenizers import Tokenizer

HALF = "\ufffd"  # what half a character decodes to
LONGEST_CHARACTER = 4  # bytes, so that many tokens at most wait for one another


def pieces_of(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """One text for each id, in the order of `ids`; empty for a token that only begins a character, U+FFFD where none follows.

    What a token reads as may depend on the one before it (GPT-1 has its spaces between words), so it is decoded behind that.
    """
    pieces: list[str] = []
    context: list[int] = []
    pending: list[int] = []
    for token in ids:
        pending.append(token)
        text = tokenizer.decode(context + pending)[len(tokenizer.decode(context)) :]
        if text.endswith(HALF) and len(pending) < LONGEST_CHARACTER:
            pieces.append("")
            continue
        pieces.append(text)
        context, pending = pending, []
    if pending:
        pieces[-1] = tokenizer.decode(context + pending)[len(tokenizer.decode(context)) :]
    return pieces


def shown(tokenizer: Tokenizer, token: int) -> str:
    """One token alone, as it is shown among others."""
    return tokenizer.decode([token])
