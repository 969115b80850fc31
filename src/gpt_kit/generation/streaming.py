"""Ids -> a stream of text, in pieces that never cut a character and hold no letter of a stop string; and the whole text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from gpt_kit.generation.engine import Engine
from gpt_kit.generation.generate import generate_ids, write
from gpt_kit.generation.request import Request
from gpt_kit.generation.sampling import GREEDY, Sampling
from gpt_kit.model import GPTModel
from gpt_kit.tokenizers import Tokenizer


def stream_text(
    model: GPTModel | Engine,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int,
    *,
    sampling: Sampling = GREEDY,
    stop: Sequence[str] = (),
    seed: int | None = None,
    use_cache: bool = True,
) -> Iterator[str]:
    """The continuation of `prompt` in pieces that never cut a character, up to the end token or one of the `stop` strings.

    An engine in the place of the model is ready at once for the next text, and knows what both begin with.
    """
    prompt_ids, end = encode_prompt(prompt, tokenizer), tokenizer.end_of_text_id
    tokens: Iterator[int | None]
    if isinstance(model, Engine):
        stop_ids = frozenset() if end is None else frozenset([end])
        tokens = write(model, Request(prompt=prompt_ids, max_new_tokens=max_new_tokens, sampling=sampling, seed=seed, stop_ids=stop_ids))
    else:
        steps = generate_ids(model, [prompt_ids], max_new_tokens, sampling=sampling, stop_id=end, seed=seed, use_cache=use_cache)
        tokens = (token for (token,) in steps)
    return text_of(tokens, tokenizer, prompt_ids, stop)


def text_of(tokens: Iterable[int | None], tokenizer: Tokenizer, prompt_ids: list[int], stop: Sequence[str] = ()) -> Iterator[str]:
    """Yield the text that `tokens` add to `prompt_ids`, as they come, up to a None or one of the `stop` strings."""
    text = TextStream(tokenizer, prompt_ids, stop)
    for token in tokens:
        if token is None:
            break
        if piece := text.feed(token):
            yield piece
        if text.stopped_by is not None:
            return
    if piece := text.finish():
        yield piece


class TextStream:
    """Ids -> text, as they come: no character is cut, and nothing shown that might begin a stop string.

    What a token reads as may depend on those before it: GPT-1 has its spaces between words. So ids are decoded behind the piece
    before them, which begins and ends with whole characters: the same text as of all ids at once, in time linear in their number.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_ids: Sequence[int], stop: Sequence[str] = ()) -> None:
        self._tokenizer, self._context = tokenizer, list(prompt_ids)
        self.stop = [text for text in stop if text]
        """What ends the text. It may be set when a part of the text, an echoed prompt, is through already."""
        self._pending: list[int] = []  # ids of half a character
        self._held = ""  # the last characters, which may be the beginning of a stop string
        self.stopped_by: str | None = None
        """The stop string that was met. The text ends before it."""

    def feed(self, token: int) -> str:
        """What can be shown now that this token has come."""
        self._pending.append(token)
        piece = self._decoded()
        if not piece or piece.endswith("\ufffd"):
            return ""
        self._context, self._pending = self._pending, []
        return self._shown(piece)

    def finish(self) -> str:
        """What is left when no further token comes; half a character is U+FFFD."""
        if self.stopped_by is not None:
            return ""
        piece, self._pending = self._decoded(), []
        shown = self._shown(piece)
        rest, self._held = self._held, ""
        return shown + rest

    @property
    def num_held(self) -> int:
        """Characters that are whole but not shown yet."""
        return len(self._held)

    def _decoded(self) -> str:
        before = self._tokenizer.decode(self._context)
        return self._tokenizer.decode(self._context + self._pending)[len(before) :] if self._pending else ""

    def _shown(self, piece: str) -> str:
        text = self._held + piece
        found = [(position, string) for string in self.stop if (position := text.find(string)) >= 0]
        if found:
            position, self.stopped_by = min(found)
            self._held = ""
            return text[:position]
        longest = max((n for string in self.stop for n in range(1, len(string)) if text.endswith(string[:n])), default=0)
        self._held = text[len(text) - longest :]
        return text[: len(text) - longest]


def generate_text(model: GPTModel | Engine, tokenizer: Tokenizer, prompt: str, max_new_tokens: int, **options: object) -> str:
    """The continuation of `prompt`, without the prompt. Options as for `stream_text`."""
    stream: Callable[..., Iterator[str]] = stream_text
    return "".join(stream(model, tokenizer, prompt, max_new_tokens, **options))


def encode_prompt(prompt: str, tokenizer: Tokenizer) -> list[int]:
    """The ids of a prompt; an empty one is the beginning of a new document (or the first entry, where no token says so)."""
    if prompt:
        return tokenizer.encode(prompt)
    return [tokenizer.end_of_text_id or 0]
