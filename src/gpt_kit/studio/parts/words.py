"""Words on the page.

Streamlit reads most texts as Markdown. What comes from people, models and files goes through `st.text` (or a select box, a table, an
element of our own), which read nothing into it; the other texts stand in this package, word for word.
"""

from __future__ import annotations

import streamlit as st

KEPT = "keep_"


def title(name: str, about: str) -> None:
    """The head of a room."""
    st.title(name, anchor=False)
    st.caption(about)


def trouble(message: str) -> None:
    """Something did not work; `message` may hold paths, names and text from anywhere."""
    with st.container(border=True):
        st.markdown(":red[**That did not work**]")
        st.text(message)


def kept(name: str, first: object) -> str:
    """The key of a widget whose value survives a visit to another room; `first` is what it holds in the beginning."""
    key = f"{KEPT}{name}"
    st.session_state.setdefault(key, first)
    return key


def keep() -> None:
    """Called at every run, before the room: Streamlit forgets what belongs to a widget that is not drawn, unless it is set anew."""
    for key in list(st.session_state):
        if isinstance(key, str) and key.startswith(KEPT):
            st.session_state[key] = st.session_state[key]
