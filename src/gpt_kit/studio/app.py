"""The pages together: the way from room to room, and what is kept on it."""

from __future__ import annotations

from functools import partial
from typing import Any

import streamlit as st

from gpt_kit.studio.folder import RunsFolder
from gpt_kit.studio.parts.models import Studio
from gpt_kit.studio.parts.words import keep
from gpt_kit.studio.rooms import chat, compare, complete, inside, runs, tokens

ROOMS = {
    "Runs": (runs.show, ":material/show_chart:"),
    "Chat": (chat.show, ":material/forum:"),
    "Complete": (complete.show, ":material/edit_note:"),
    "Inside": (inside.show, ":material/visibility:"),
    "Compare": (compare.show, ":material/compare_arrows:"),
    "Tokens": (tokens.show, ":material/content_cut:"),
}


def draw(root: str, device: str = "auto") -> None:
    """Draw the page for the runs in `root`. Called anew at every click."""
    st.set_page_config(page_title="gpt-kit studio", page_icon=_icon(), layout="wide")
    keep()
    studio = Studio(RunsFolder(root), device)
    pages = [
        st.Page(partial(show, studio), title=name, icon=icon, url_path=name.lower(), default=name == "Runs")
        for name, (show, icon) in ROOMS.items()
    ]
    st.navigation(pages).run()


def _icon() -> Any:
    """Three bars on paper, made here: Streamlit would fetch a sign from elsewhere."""
    from PIL import Image

    picture = Image.new("RGB", (32, 32), (251, 249, 244))
    for left, top, colour in ((4, 16, (217, 130, 43)), (13, 6, (47, 127, 134)), (22, 11, (122, 94, 168))):
        picture.paste(colour, (left, top, left + 6, 28))
    return picture
