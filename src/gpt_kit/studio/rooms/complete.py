"""Complete: a text goes on, each token in the colour of its probability; any of its rivals can be taken instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import streamlit as st

from gpt_kit.errors import GPTKitError
from gpt_kit.generation import encode_prompt
from gpt_kit.studio.parts.models import Loaded, Studio, pick_model
from gpt_kit.studio.parts.settings import Settings, settings
from gpt_kit.studio.parts.strip import Taken, probability_strip
from gpt_kit.studio.parts.words import kept, title, trouble
from gpt_kit.studio.parts.writing import write_on
from gpt_kit.studio.scoring import ScoredToken, bits, score_tokens
from gpt_kit.tokenizers.base import well_formed

PROMPT = "Return the number of"
STATE = "completion"


@dataclass(frozen=True, slots=True)
class Completion:
    """One text. The first `num_prompt` ids are the person's; those at `taken` were chosen against the model."""

    model: str
    ids: tuple[int, ...]
    num_prompt: int
    taken: frozenset[int] = frozenset()
    ended: bool = False
    """The last id is the end token."""
    before: Completion | None = field(default=None, repr=False)
    """What stood here before the last change."""


def show(studio: Studio) -> None:
    """The room."""
    title("Complete", "Let a model go on with a text. See how sure it was of every token, and what else it might have said.")
    with st.sidebar:
        loaded = pick_model(studio, "model")
        wishes = settings(length=60)
    prompt = st.text_area("Text to go on from", key=kept("prompt", PROMPT), height=90)
    if loaded is None:
        return
    current: Completion | None = st.session_state.get(STATE)
    if current is not None and current.model != loaded.name:
        current = None
    write, more, back, _ = st.columns([1, 1, 1, 5])
    asked = write.button("Write", type="primary", width="stretch")
    further = more.button("Go on", disabled=current is None or current.ended, width="stretch")
    undone = back.button("Back", disabled=current is None or current.before is None, width="stretch")
    try:
        if asked:
            _show_anew(begin(loaded, prompt, wishes))
        if further and current:
            _show_anew(go_on(loaded, current, wishes))
        if undone and current:
            _show_anew(current.before)
        if current is None:
            st.caption("The text appears here, in colours: orange where a token surprised the model, green where it was sure.")
        elif chosen := _chosen(loaded, current):
            _show_anew(take(loaded, current, chosen, wishes))
    except GPTKitError as error:
        trouble(str(error))


def _show_anew(completion: Completion | None) -> None:
    """The page once more, with this text and the buttons that fit it."""
    st.session_state[STATE] = completion
    st.rerun()


def _chosen(loaded: Loaded, current: Completion) -> Taken | None:
    """Draw the text; gives the rival that was chosen in it."""
    scored = score_tokens(loaded.model, loaded.tokenizer, current.ids)
    chosen = probability_strip(scored, key="completion_strip", num_prompt=current.num_prompt, taken=current.taken, can_take=True)
    st.caption(f"{len(current.ids):,} of {loaded.context:,} tokens that this model sees · {average(scored)}")
    return chosen if chosen is not None and 0 < chosen.at < len(current.ids) else None


def average(scored: Sequence[ScoredToken]) -> str:
    """How surprised the model was, in words."""
    return f"{bits(scored) / max(len(scored) - 1, 1):.1f} bits of surprise a token"


def begin(loaded: Loaded, prompt: str, wishes: Settings) -> Completion:
    """A prompt, continued. Raises: InputError where it leaves no room."""
    ids = tuple(encode_prompt(well_formed(prompt), loaded.tokenizer))
    return go_on(loaded, Completion(loaded.name, ids, len(ids)), wishes, remember=False)


def take(loaded: Loaded, current: Completion, chosen: Taken, wishes: Settings) -> Completion:
    """The text up to `chosen.at`, the rival there, and what the model makes of it."""
    ids = (*current.ids[: chosen.at], chosen.token)
    taken = frozenset(i for i in current.taken if i < chosen.at) | {chosen.at}
    changed = Completion(loaded.name, ids, min(current.num_prompt, chosen.at), taken, before=current)
    return go_on(loaded, changed, wishes, remember=False)


def go_on(loaded: Loaded, current: Completion, wishes: Settings, *, remember: bool = True) -> Completion:
    """The same text with what the model adds to it; nothing where its last token is an end that somebody took."""
    before = current if remember else current.before
    if len(current.ids) > current.num_prompt and current.ids[-1] == loaded.tokenizer.end_of_text_id:
        return replace(current, ended=True, before=before)
    found = write_on(loaded, current.ids, wishes)
    return replace(current, ids=(*current.ids, *found.new), ended=found.ended, before=before)
