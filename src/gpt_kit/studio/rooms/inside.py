"""Inside: what a model does while it reads. Attention of every layer and head, the logit lens, norms."""

from __future__ import annotations

import streamlit as st

from gpt_kit.errors import GPTKitError
from gpt_kit.generation import encode_prompt
from gpt_kit.studio.cutting import pieces_of
from gpt_kit.studio.inside import Inside, look_inside
from gpt_kit.studio.parts.drawings import draw_heads, draw_lens
from gpt_kit.studio.parts.models import Loaded, Studio, pick_model
from gpt_kit.studio.parts.norms import added_chart, stream_chart
from gpt_kit.studio.parts.words import kept, title, trouble
from gpt_kit.tokenizers.base import well_formed

TEXT = "random.shuffle(x)\n\nShuffle list x in place, and return None."
MOST_TOKENS = 96
"""Read at a time: every head has a weight for every pair of tokens, and all of them are sent to the page."""
VIEWS = {
    "Attention": "Each head of each layer decides, token by token, which earlier tokens to take something from.",
    "Logit lens": "Stop after any layer and ask for the next token: the answer takes shape from the embedding upwards. "
    "A frame marks where it is the token that follows.",
    "Norms": "Each token is a vector that every layer adds to. Its length says how much has been written into it.",
}


def show(studio: Studio) -> None:
    """The room."""
    title("Inside", "Watch a model read: what each head looks at, what each layer would have said, how much is written where.")
    with st.sidebar:
        loaded = pick_model(studio, "model")
    text = st.text_area("Text to read", key=kept("inside", TEXT), height=115)
    if loaded is None:
        return
    view = st.segmented_control("View", list(VIEWS), key=kept("view", "Attention"), label_visibility="collapsed") or "Attention"
    st.caption(VIEWS[view])
    try:
        ids = encode_prompt(well_formed(text), loaded.tokenizer)
        most = min(MOST_TOKENS, loaded.context)
        if len(ids) > most:
            st.caption(f"The text has {len(ids):,} tokens; the first {most} are shown.")
        _draw(view, loaded, ids[:most])
    except GPTKitError as error:
        trouble(str(error))


def _draw(view: str, loaded: Loaded, ids: list[int]) -> None:
    found: Inside = look_inside(loaded.model, ids)
    pieces = pieces_of(loaded.tokenizer, ids)
    if view == "Attention":
        draw_heads(found, pieces, key="heads")
    elif view == "Logit lens":
        draw_lens(found, pieces, loaded.tokenizer, key="lens")
    else:
        st.altair_chart(stream_chart(found, pieces))
        st.altair_chart(added_chart(found, pieces))
