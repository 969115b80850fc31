"""Conversations: what a chat model learns from, in the forms in which people keep them.

    {"instruction": …, "input": …, "output": …}                    a record, put into a prompt template (conversation_forms.py)
    {"messages": [{"role": "user", "content": …}, …]}              as OpenAI and `transformers` write them
    {"conversations": [{"from": "human", "value": …}, …]}          ShareGPT
    {"message_id": …, "parent_id": …, "role": "prompter", …}       messages of trees, as in oasst1 (message_trees.py)
    python-docs                                                    questions on Python, out of its docstrings (python_questions.py)

Each record's form is found by its keys. Records come from .json, .jsonl and .parquet (plain, .gz or .zst), folders and globs of these,
and datasets of the hub. A bad record stops the reading by its place, or is left out and counted: never in silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gpt_kit.data.compressed import COMPRESSIONS, without_compression
from gpt_kit.data.conversation_forms import messages_of, prompt_template
from gpt_kit.data.damage import Damage
from gpt_kit.data.hub import read_hub_rows
from gpt_kit.data.message_trees import is_tree, read_trees, tree_rows
from gpt_kit.data.python_questions import read_python_lesson
from gpt_kit.data.readers import RECORD_SUFFIXES, read_records
from gpt_kit.data.records import FoundRecords
from gpt_kit.data.sources import Source
from gpt_kit.errors import DataError
from gpt_kit.tokenizers import Message

TOLD = 5
"""Records left out that are told one by one."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in turn, from the user on, with at most one system message before; and where they stand, for people."""

    messages: tuple[Message, ...]
    source: str
    """"chats.jsonl:17" (line, from 1), "records.json[3]", "oasst1[3]" (record, from 0; of a tree its root)."""


def read_conversations(
    source: str,
    template: str = "plain",
    *,
    language: str = "en",
    on_damaged: Literal["error", "skip"] = "error",
    note: Callable[[str], None] = lambda _: None,
) -> list[Conversation]:
    """All conversations of `source`, in its order; those from trees come last.

    `template` makes an instruction and its input the user's message: plain, alpaca, or a text of one's own with {instruction} and
    {input}. `language` is the one that is taken from trees ("all": any). `note` is told what was left out, and why.
    Raises: DataError for an unknown source, a bad record (by its place; `on_damaged` "skip" leaves it out) or no conversation at
    all; ConfigError for a template that cannot be one.
    """
    if Source(source).is_docs:
        return [
            Conversation(tuple(turn for q, a in exchanges for turn in (Message("user", q), Message("assistant", a))), f"{source}/{name}")
            for exchanges, name in read_python_lesson()
        ]
    prompt = prompt_template(template)
    left_out = _LeftOut(on_damaged, note)
    conversations, messages_in_trees = [], []
    for found in _records(source, note):
        try:
            if isinstance(found, Damage):
                raise found
            if is_tree(found.value):
                messages_in_trees += tree_rows(found)
            else:
                conversations.append(Conversation(messages_of(found, prompt), found.where))
        except Damage as damage:
            left_out.add(damage)
    if messages_in_trees:
        threads = read_trees(messages_in_trees, source, language, left_out.add, note)
        conversations += [Conversation(tuple(messages), where) for messages, where in threads]
    left_out.tell(source)
    if not conversations:
        raise DataError(f"{source}: holds no conversation to learn from")
    return conversations


class _LeftOut:
    """Bad records: the first is an error, or all are counted."""

    def __init__(self, policy: Literal["error", "skip"], note: Callable[[str], None]) -> None:
        self._policy, self._note = policy, note
        self._kinds: Counter[str] = Counter()

    def add(self, damage: Damage) -> None:
        """Raises: `damage`, unless it is to be skipped."""
        if self._policy == "error":
            raise damage
        if self._kinds.total() < TOLD:
            self._note(f"left out: {damage}")
        self._kinds[damage.kind] += 1

    def tell(self, source: str) -> None:
        if self._kinds:
            kinds = ", ".join(f"{count:,} × {kind}" for kind, count in self._kinds.most_common())
            self._note(f"{source}: {self._kinds.total():,} bad records were left out ({kinds})")


def _records(name: str, note: Callable[[str], None]) -> FoundRecords:
    source = Source(name)
    for line in source.skipped:
        note(f"{name}: {line}")
    if source.hub and not source.hub.url:
        yield from read_hub_rows(name, source.hub, "off")  # all of it is needed at once, and the next run finds it on the disk
        return
    files = [file for file in source.files if without_compression(file).suffix.lower() in RECORD_SUFFIXES]
    kinds = f"{', '.join(RECORD_SUFFIXES)}, each also as {' or '.join(COMPRESSIONS)}"
    if not files:
        raise DataError(f"{name}: is no file of records. Conversations are read from files that end in {kinds}, and from the hub")
    if others := len(source.files) - len(files):
        note(f"{name}: {others:,} of {len(source.files):,} files are no files of records ({kinds}) and are left out")
    for file in files:
        yield from read_records(file)
