"""How a model writes: the same few controls wherever it does."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from gpt_kit.generation import Sampling
from gpt_kit.studio.parts.words import kept


@dataclass(frozen=True, slots=True)
class Settings:
    """What the controls say."""

    sampling: Sampling
    max_new_tokens: int
    seed: int | None


def settings(*, length: int, longest: int = 400) -> Settings:
    """Draw the controls; values stay when another room is visited."""
    temperature = st.slider(
        "Temperature",
        *(0.0, 2.0),
        step=0.05,
        key=kept("temperature", 0.8),
        help="0 always takes the most probable token; higher is more daring",
    )
    wanted = st.slider("Length", 1, longest, key=kept(f"length_{length}", length), help="Most tokens to write")
    with st.expander("More"):
        top_k = st.slider("Top k", 0, 200, key=kept("top_k", 50), help="Only the k most probable tokens can be drawn; 0 means all")
        top_p = st.slider(
            "Top p",
            *(0.05, 1.0),
            step=0.05,
            key=kept("top_p", 1.0),
            help="Only the most probable tokens that together reach this can be drawn; 1 means all",
        )
        min_p = st.slider(
            "Min p",
            *(0.0, 0.5),
            step=0.01,
            key=kept("min_p", 0.0),
            help="Only tokens at least this share as probable as the most probable one can be drawn",
        )
        penalty = st.slider(
            "Repetition penalty", *(1.0, 2.0), step=0.05, key=kept("penalty", 1.0), help="Above 1, what is there already comes less often"
        )
        number = st.number_input(
            "Seed",
            0,
            2**31,
            value=None,
            key=kept("seed", 1),
            help="The same seed gives the same text; empty, each differs",
            placeholder="none",
        )
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=penalty)
    return Settings(sampling, wanted, None if number is None else int(number))
