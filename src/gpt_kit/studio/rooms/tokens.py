"""Tokens: how a text is cut, by any tokenizer."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from gpt_kit.errors import GPTKitError
from gpt_kit.studio.cutting import pieces_of
from gpt_kit.studio.folder import RunsFolder
from gpt_kit.studio.parts.models import Studio
from gpt_kit.studio.parts.strip import cut_strip
from gpt_kit.studio.parts.words import kept, title, trouble
from gpt_kit.tokenizers import Tokenizer, load_tokenizer, measure_fertility
from gpt_kit.tokenizers.base import well_formed

TEXT = """Shuffle list x in place, and return None.

def antidisestablishmentarianism(x=3.14159):  # 日本語, naïve café 🦉
    return '<|endoftext|>'"""
MOST_CHARACTERS = 20_000
MOST_TOKENS = 1_500
"""Drawn at a time."""


def show(studio: Studio) -> None:
    """The room."""
    title("Tokens", "A model never sees letters, only the pieces that its tokenizer cuts a text into.")
    tokenizers = available(studio.folder)
    with st.sidebar:
        name = st.selectbox("Tokenizer", list(tokenizers), key=kept("tokenizer", next(iter(tokenizers))))
    text = well_formed(st.text_area("Text to cut", key=kept("text", TEXT), height=130, max_chars=MOST_CHARACTERS))
    try:
        tokenizer = tokenizers[name]()
        ids = tokenizer.encode(text)
    except GPTKitError as error:
        trouble(str(error))
        return
    if not text.strip():
        st.caption("Write something above.")
        return
    _figures(tokenizer, text, len(ids))
    if len(ids) > MOST_TOKENS:
        st.caption(f"The first {MOST_TOKENS:,} tokens:")
    pieces = pieces_of(tokenizer, ids[:MOST_TOKENS])
    cut_strip([(number, piece, note(piece)) for number, piece in zip(ids, pieces, strict=False)], key="cut")
    st.subheader("The same text by each of them", anchor=False)
    columns = {name: st.column_config.NumberColumn(format="localized") for name in ("vocabulary", "tokens")}
    st.dataframe(beside(tokenizers, text), hide_index=True, width="stretch", column_config=columns)


def available(folder: RunsFolder) -> dict[str, Callable[[], Tokenizer]]:
    """GPT-2's, bytes, and those of the models here, by name; each is read when it is called."""
    found: dict[str, Callable[[], Tokenizer]] = {}
    for name, path in folder.models().items():
        if " · step" not in name:
            found[f"of {name}"] = lambda path=str(path): _of_folder(path)  # type: ignore[misc]
    return {**found, "gpt2": _gpt2, "byte": lambda: load_tokenizer("byte")}


@st.cache_resource(max_entries=16, show_spinner=False)
def _of_folder(path: str) -> Tokenizer:
    return load_tokenizer(path)


@st.cache_resource(show_spinner=False)
def _gpt2() -> Tokenizer:
    return load_tokenizer("gpt2")


def _figures(tokenizer: Tokenizer, text: str, num_tokens: int) -> None:
    size = len(text.encode())
    columns = st.columns(4)
    columns[0].metric("Tokens", f"{num_tokens:,}")
    columns[1].metric("Characters", f"{len(text):,}")
    columns[2].metric("Bytes per token", f"{size / max(num_tokens, 1):.2f}", help="How much text a token carries; more is better")
    columns[3].metric("Vocabulary", f"{tokenizer.vocab_size:,}")


def note(piece: str) -> str:
    """What a token weighs."""
    if not piece:
        return "the beginning of a character"
    size = len(piece.encode())
    return f"{size} byte{'' if size == 1 else 's'}"


def beside(tokenizers: dict[str, Callable[[], Tokenizer]], text: str) -> pd.DataFrame:
    """One row for each tokenizer; those that cut alike (by fingerprint) share one."""
    rows: dict[str, dict[str, object]] = {}
    for name, make in tokenizers.items():
        try:
            tokenizer = make()
            if tokenizer.fingerprint in rows:
                rows[tokenizer.fingerprint]["tokenizer"] = f"{rows[tokenizer.fingerprint]['tokenizer']}, {name}"
                continue
            counted = measure_fertility(tokenizer, [text])
        except GPTKitError as error:
            rows[name] = {"tokenizer": name, "kind": f"cannot: {error}"}
            continue
        rows[tokenizer.fingerprint] = {
            "tokenizer": name,
            "kind": tokenizer.name,
            "vocabulary": tokenizer.vocab_size,
            "tokens": counted.tokens,
            "bytes per token": round(counted.bytes_per_token, 2),
            "tokens per word": round(counted.tokens_per_word, 2),
        }
    return pd.DataFrame(list(rows.values()))
