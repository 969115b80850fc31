"""A model goes on with ids, and the text is seen as it comes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import streamlit as st

from gpt_kit.generation import generate_ids, text_of
from gpt_kit.studio.parts.models import Loaded
from gpt_kit.studio.parts.settings import Settings
from gpt_kit.studio.scoring import check_length


@dataclass(frozen=True, slots=True)
class Continued:
    """What was written."""

    new: tuple[int, ...]
    """The new ids; the end token is the last of them where the model ended the text."""
    ended: bool
    seconds: float


def write_on(loaded: Loaded, ids: Sequence[int], wishes: Settings) -> Continued:
    """Up to `max_new_tokens`, the end token, or the end of the context. Raises: InputError for ids that do not fit the context."""
    check_length(loaded.model, ids)
    end = loaded.tokenizer.end_of_text_id
    room = min(wishes.max_new_tokens, loaded.context - len(ids))
    new: list[int] = []
    steps = generate_ids(loaded.model, [ids], room, sampling=wishes.sampling, stop_id=end, seed=wishes.seed)
    place, shown = st.empty(), loaded.tokenizer.decode(ids)
    started = time.perf_counter()
    for piece in text_of(_noted(steps, new), loaded.tokenizer, list(ids)):
        shown += piece
        place.text(shown)
    seconds = time.perf_counter() - started
    place.empty()
    ended = end is not None and len(new) < room
    return Continued((*new, end) if end is not None and ended else tuple(new), ended, seconds)


def _noted(steps: Iterator[list[int | None]], new: list[int]) -> Iterator[int]:
    """The ids as they come, each put into `new`."""
    for (token,) in steps:
        if token is None:
            return
        new.append(token)
        yield token
