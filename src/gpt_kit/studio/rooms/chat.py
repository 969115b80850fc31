"""Chat: talk with a model that was taught to answer."""

from __future__ import annotations

import re
from pathlib import Path

import streamlit as st

from gpt_kit.errors import GPTKitError
from gpt_kit.generation import Chat
from gpt_kit.studio.folder import Place
from gpt_kit.studio.history import read_samples
from gpt_kit.studio.parts.models import Loaded, Studio, pick_model
from gpt_kit.studio.parts.settings import Settings, settings
from gpt_kit.studio.parts.words import kept, title, trouble
from gpt_kit.tokenizers import ASSISTANT, USER, Message
from gpt_kit.tokenizers.base import well_formed

TALKS = "talks"
AVATARS = {"user": ":material/person:", "assistant": ":material/potted_plant:"}
MOST_SUGGESTIONS = 4
HARMLESS = re.compile(r"[A-Za-z](?!ww\.)[A-Za-z0-9 ,.?']{5,70}")
"""What may stand on a button, which reads Markdown: nothing that Markdown would read anything into."""


def show(studio: Studio) -> None:
    """The room."""
    title("Chat", "Talk with a model that was taught to answer.")
    models = studio.folder.models()
    able = [name for name, folder in models.items() if speaks(folder)]
    if models and not able:
        st.info(
            "None of these models was taught to answer yet. Two minutes for the demo's: `gpt-kit quickstart --chat`; any other: "
            "`gpt-kit finetune sft --model runs/NAME --data chats.jsonl --out runs/chat`",
            icon=":material/school:",
        )
        return
    with st.sidebar:
        loaded = pick_model(studio, "chat_model", names=able)
        wishes = settings(length=200)
        system = st.text_area("System message", key=kept("system", ""), help="What the model is told before the first message", height=70)
    if loaded is None:
        return
    talks: dict[str, list[Message]] = st.session_state.setdefault(TALKS, {})
    messages = talks.setdefault(loaded.name, [])
    for message in messages:
        _say(message.role, message.content)
    question = st.chat_input("Say something") or (None if messages else _suggested(studio, loaded, models[loaded.name]))
    if question:
        _answer(loaded, talks, question, wishes, well_formed(system))
    if talks[loaded.name] and st.button("Begin anew", icon=":material/refresh:", type="tertiary"):
        talks[loaded.name] = []
        st.rerun()


def speaks(folder: Path) -> bool:
    """Whether a chat format is saved beside the model."""
    return (folder / "chat_template.jinja").is_file()


def _say(role: str, text: str) -> None:
    with st.chat_message(role, avatar=AVATARS.get(role)):
        st.text(text)


def _answer(loaded: Loaded, talks: dict[str, list[Message]], question: str, wishes: Settings, system: str) -> None:
    """Stream one answer. What is said stays said when the person leaves in the middle of it."""
    _say("user", question)
    try:
        chat = Chat(
            loaded.model,
            loaded.tokenizer,
            system=system,
            max_new_tokens=wishes.max_new_tokens,
            sampling=wishes.sampling,
            seed=wishes.seed,
        )
        opening = len(chat.messages)
        chat.messages += talks[loaded.name]
        with st.chat_message("assistant", avatar=AVATARS["assistant"]):
            place, text = st.empty(), ""
            pieces = chat.ask(well_formed(question))
            try:
                for piece in pieces:
                    text += piece
                    place.text(text)
            finally:
                pieces.close()  # type: ignore[attr-defined]
                talks[loaded.name] = chat.messages[opening:]
            if not text:
                st.caption("(nothing: the model ended its answer at once)")
            if chat.was_cut:
                st.caption("Cut: the length, or the model's context, was reached.")
            if chat.num_dropped:
                st.caption("The talk has outgrown the model's context: its oldest exchanges are left out.")
    except GPTKitError as error:
        trouble(str(error))


def _suggested(studio: Studio, loaded: Loaded, folder: Path) -> str | None:
    """A question that the model's own run was asked, if the person picks one."""
    questions = suggestions(studio, loaded.name.partition(" · ")[0], folder)
    return st.pills("Questions of its training", questions) if questions else None


def suggestions(studio: Studio, name: str, folder: Path) -> list[str]:
    """Questions from the run's samples.md, each once."""
    run = folder.parent.parent
    if folder.parent.name != "checkpoints":
        return []
    asked = [text for sample in read_samples(studio.folder, Place(name, run, True)) for label, text in sample.parts if label == "asked"]
    questions = [text.removeprefix(USER).removesuffix(ASSISTANT) for text in asked if text.count(USER) == 1]
    return [text for text in dict.fromkeys(questions) if HARMLESS.fullmatch(text)][:MOST_SUGGESTIONS]
