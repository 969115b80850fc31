"""Ids -> a stream of text, in pieces that never cut a character and hold no letter of a stop string; and the whole text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from gpt_kit.generation.generate import GREEDY, generate_ids
from gpt_kit.generation.sampling import Sampling
from gpt_kit.model import GPTModel
from gpt_kit.tokenizers import Tokenizer


def stream_text(
    model: GPTModel,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int,
    *,
    sampling: Sampling = GREEDY,
    stop: Sequence[str] = (),
    seed: int | None = None,
    use_cache: bool = True,
) -> Iterator[str]:
    """The continuation of `prompt` in pieces that never cut a character, up to the end token or one of the `stop` strings."""
    prompt_ids = encode_prompt(prompt, tokenizer)
    steps = generate_ids(
        model, [prompt_ids], max_new_tokens, sampling=sampling, stop_id=tokenizer.end_of_text_id, seed=seed, use_cache=use_cache
    )
    return text_of((token for (token,) in steps), tokenizer, prompt_ids, stop)


def text_of(tokens: Iterable[int | None], tokenizer: Tokenizer, prompt_ids: list[int], stop: Sequence[str] = ()) -> Iterator[str]:
    """Yield the text that `tokens` add to `prompt_ids`, as they come, up to a None or one of the `stop` strings."""
    stop = [text for text in stop if text]
    hold_back = max((len(text) for text in stop), default=1) - 1  # the last characters might be the beginning of a stop string
    text, released = "", 0
    for piece in _whole_characters(tokenizer, prompt_ids, tokens):
        text += piece
        found = [position for position in (text.find(s, released) for s in stop) if position >= 0]
        if found:
            text = text[: min(found)]
            break
        safe = len(text) - hold_back
        if safe > released:
            yield text[released:safe]
            released = safe
    if len(text) > released:
        yield text[released:]


def _whole_characters(tokenizer: Tokenizer, context: list[int], tokens: Iterable[int | None]) -> Iterator[str]:
    """The text that `tokens` add to `context`, up to a None, each character with its last token; half a one at the end as U+FFFD.

    What a token reads as may depend on those before it: GPT-1 has its spaces between words. So ids are decoded behind the piece
    before them, which begins and ends with whole characters: the same text as of all ids at once, in time linear in their number.
    """
    pending: list[int] = []
    text = ""
    for token in tokens:
        if token is None:
            break
        pending.append(token)
        text = tokenizer.decode(context + pending)[len(tokenizer.decode(context)) :]
        if text and not text.endswith("\ufffd"):
            yield text
            context, pending, text = pending, [], ""
    if text:
        yield text


def generate_text(model: GPTModel, tokenizer: Tokenizer, prompt: str, max_new_tokens: int, **options: object) -> str:
    """The continuation of `prompt`, without the prompt. Options as for `stream_text`."""
    stream: Callable[..., Iterator[str]] = stream_text
    return "".join(stream(model, tokenizer, prompt, max_new_tokens, **options))


def encode_prompt(prompt: str, tokenizer: Tokenizer) -> list[int]:
    """The ids of a prompt; an empty one is the beginning of a new document (or the first entry, where no token says so)."""
    if prompt:
        return tokenizer.encode(prompt)
    return [tokenizer.end_of_text_id or 0]
