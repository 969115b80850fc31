"""The page's own elements: NAME.js and NAME.css beside this file, which draw the data that they are given into <div class=NAME>.

Both are sent with the page, so nothing is fetched. Data is set as text by each of them.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any


@cache
def component(name: str) -> Any:
    """The function that draws element `name`; made once in a process, where it is first needed."""
    import streamlit as st

    folder = files(__package__)
    common, js, css = ((folder / file).read_text(encoding="utf-8") for file in ("common.js", f"{name}.js", f"{name}.css"))
    return st.components.v2.component(f"gpt_kit_{name}", html=f'<div class="{name}"></div>', css=css, js=common + js)
