"""Compare: two checkpoints, one prompt, side by side."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from gpt_kit.errors import GPTKitError
from gpt_kit.generation import encode_prompt
from gpt_kit.studio.parts.models import Loaded, Studio, pick_model
from gpt_kit.studio.parts.settings import Settings, settings
from gpt_kit.studio.parts.strip import probability_strip
from gpt_kit.studio.parts.words import kept, title, trouble
from gpt_kit.studio.parts.writing import write_on
from gpt_kit.studio.scoring import ScoredToken, bits, score_tokens
from gpt_kit.tokenizers.base import well_formed

PROMPT = "Return the number of"


@dataclass(frozen=True, slots=True)
class Written:
    """What one model made of the prompt."""

    model: str
    tokens: list[ScoredToken]
    num_prompt: int
    seconds: float

    @property
    def prompt_bits_per_byte(self) -> float:
        """How surprised the model was by the prompt: comparable across tokenizers. The first token has no probability and no say."""
        told = "".join(token.text for token in self.tokens[1 : self.num_prompt])
        return bits(self.tokens[: self.num_prompt]) / max(len(told.encode()), 1)

    @property
    def tokens_per_second(self) -> float:
        """Written tokens over the time from the first to the last."""
        return (len(self.tokens) - self.num_prompt) / max(self.seconds, 1e-9)


def show(studio: Studio) -> None:
    """The room."""
    title("Compare", "Two checkpoints, one prompt, the same settings and seed.")
    with st.sidebar:
        wishes = settings(length=60)
    prompt = st.text_area("Prompt for both", key=kept("compare", PROMPT), height=90)
    asked = st.button("Write both", type="primary")
    left, right = st.columns(2, gap="large")
    with left:
        first = pick_model(studio, "left", "On the left")
    with right:
        second = pick_model(studio, "right", "On the right", other_than=first.name if first else "") if first else None
    for column, loaded, side in ((left, first, "left"), (right, second, "right")):
        if loaded is not None:
            with column:
                _half(loaded, prompt, wishes, side, asked)


def _half(loaded: Loaded, prompt: str, wishes: Settings, side: str, asked: bool) -> None:
    key = f"compared_{side}"
    try:
        if asked:
            st.session_state[key] = write(loaded, prompt, wishes)
    except GPTKitError as error:
        st.session_state.pop(key, None)
        trouble(str(error))
    written: Written | None = st.session_state.get(key)
    if written is None or written.model != loaded.name:
        return
    bytes_, speed, length = st.columns(3)
    bytes_.metric(
        "Bits per byte", f"{written.prompt_bits_per_byte:.2f}", help="How surprised it was by the prompt, per byte of it; lower is better"
    )
    speed.metric("Tokens per second", f"{written.tokens_per_second:,.0f}")
    length.metric("Tokens written", len(written.tokens) - written.num_prompt)
    probability_strip(written.tokens, key=f"strip_{side}", num_prompt=written.num_prompt, below=True)


def write(loaded: Loaded, prompt: str, wishes: Settings) -> Written:
    """Continue the prompt, shown while it comes. Raises: InputError where it does not fit the context."""
    ids = encode_prompt(well_formed(prompt), loaded.tokenizer)
    found = write_on(loaded, ids, wishes)
    return Written(loaded.name, score_tokens(loaded.model, loaded.tokenizer, [*ids, *found.new]), len(ids), found.seconds)
