"""Which model: the picker, and models kept in memory between two clicks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from gpt_kit.errors import GPTKitError
from gpt_kit.model import GPTModel
from gpt_kit.runtime import choose_device
from gpt_kit.studio.folder import RunsFolder
from gpt_kit.studio.parts.words import kept, trouble
from gpt_kit.tokenizers import Tokenizer, load_tokenizer

MOST_MODELS = 3
"""Kept in memory at a time; the one that was not used for longest goes first."""


@dataclass(frozen=True, slots=True)
class Studio:
    """What every room is given."""

    folder: RunsFolder
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is ready, and how it is called."""

    name: str
    model: GPTModel
    tokenizer: Tokenizer

    @property
    def context(self) -> int:
        """Most tokens that it sees at a time."""
        return self.model.config.max_position_embeddings


def pick_model(studio: Studio, key: str, label: str = "Model", *, names: list[str] | None = None, other_than: str = "") -> Loaded | None:
    """A select box of `names` (None: of all models), and the model that stands in it; None, with words on the page, if there is none.

    `other_than` is the name of a model that is not wanted as the first choice.
    """
    models = studio.folder.models()
    options = list(models) if names is None else names
    if not options:
        st.info("There is no model here yet. Train a first one in four minutes: `gpt-kit quickstart`", icon=":material/potted_plant:")
        return None
    first = next((i for i, name in enumerate(options) if name != other_than), 0)
    key = kept(key, options[first])
    if st.session_state[key] not in options:
        st.session_state[key] = options[first]
    name = st.selectbox(label, options, key=key)
    return load(studio, name, models[name])


def load(studio: Studio, name: str, folder: Path) -> Loaded | None:
    """The model in `folder`; None, with words on the page, where it cannot be read."""
    try:
        studio.folder.check_model(folder)
        marks = tuple(sorted((file.name, file.stat().st_mtime_ns) for file in folder.iterdir() if file.is_file()))
        model, tokenizer = _read(str(folder), marks, studio.device)
    except GPTKitError as error:
        trouble(str(error))
        return None
    if tokenizer.vocab_size > model.config.vocab_size:
        had, expected = tokenizer.vocab_size, model.config.vocab_size
        trouble(f"{name}: its tokenizer has {had:,} entries, the model only {expected:,}. Copy the right one beside it")
        return None
    return Loaded(name, model, tokenizer)


@st.cache_resource(max_entries=MOST_MODELS, show_spinner="Reading the model …")
def _read(folder: str, marks: tuple[tuple[str, int], ...], device: str) -> tuple[GPTModel, Tokenizer]:
    """Read anew when a file of the folder has changed, which `marks` tell."""
    del marks
    return GPTModel.from_pretrained(folder).to(choose_device(device)).eval(), load_tokenizer(folder)
