"""Message trees -> threads: of every tree the one conversation that people thought best (Köpf et al. 2023, OpenAssistant).

A tree is a question, several answers to it, several further questions to each of those, and so on. In oasst1 a row is one message
that names its parent; the other published form has whole trees, with the replies inside. A thread begins at the root and goes to the
best reply each time: of the lowest rank (0 is best, none comes last), then one that was itself answered, then the first. It ends
with an answer. Messages that were deleted or not approved in review or that are in another language are left out, and all below them.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gpt_kit.data.conversation_forms import OUT_OF_TURN, UNKNOWN_ROLE, content_of
from gpt_kit.data.damage import NOT_A_STRING, Damage
from gpt_kit.data.records import Record
from gpt_kit.tokenizers import Message
from gpt_kit.tokenizers.chat import Role

NO_PARENT, TWICE = "parent not there", "message_id twice"
ANY_LANGUAGE = "all"
_ROLES: dict[str, Role] = {"prompter": "user", "assistant": "assistant"}


class TreeMessage(NamedTuple):
    """A row, as far as it matters here."""

    id: str
    parent: str | None
    role: Role
    text: object
    language: str | None
    rank: float
    is_deleted: bool
    is_approved: bool
    where: str

    def problem(self, language: str) -> str | None:
        """Why this message is left out, whatever stands above it; None: it is not."""
        if self.is_deleted:
            return "deleted"
        if not self.is_approved:
            return "not approved in review"
        return f"not in {language!r}" if language not in (self.language, ANY_LANGUAGE) else None


def is_tree(value: object) -> bool:
    """Whether a record is a message of a tree, or a tree with its replies inside."""
    if not isinstance(value, Mapping):
        return False
    inside = value.get("prompt")
    return {"message_id", "parent_id"} <= value.keys() or (isinstance(inside, Mapping) and "message_id" in inside)


def tree_rows(record: Record) -> list[TreeMessage]:
    """The messages of a record that is a tree or one message of it. Raises: Damage naming its place."""
    root = record.value if "message_id" in record.value else record.value["prompt"]
    rows: list[TreeMessage] = []
    waiting = [(root, root.get("parent_id"))]
    while waiting:
        row, parent = waiting.pop()
        replies = row.get("replies") or []
        if not (isinstance(replies, list) and all(isinstance(reply, Mapping) for reply in replies)):
            raise Damage(NOT_A_STRING, f"{record.where}: expected a list of messages under 'replies'")
        rows.append(_tree_message(row, parent, record.where))
        waiting += [(reply, rows[-1].id) for reply in reversed(replies)]
    return rows


def read_trees(
    rows: Sequence[TreeMessage], source: str, language: str, left_out: Callable[[Damage], None], note: Callable[[str], None]
) -> list[tuple[list[Message], str]]:
    """Of each tree its thread and the place of its root, where it has one; `note` is told what became of all other messages.

    Bad messages (out of turn, without text or parent, of an id that was there before) go to `left_out`.
    """
    reasons: Counter[str] = Counter()
    usable = _usable_messages(rows, language, reasons, left_out)
    replies: dict[str | None, list[TreeMessage]] = defaultdict(list)
    for row in usable.values():
        replies[row.parent].append(row)
    threads = []
    for root in replies[None]:
        thread = _best_thread(root, replies)
        reasons["questions without an answer"] += len(thread) % 2
        if answered := thread[: len(thread) - len(thread) % 2]:
            threads.append(([Message(row.role, str(row.text)) for row in answered], root.where))
    in_threads = sum(len(messages) for messages, _ in threads)
    reasons["ranked lower than another reply"] = len(usable) - in_threads - reasons["questions without an answer"]
    told = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common() if count) or "none"
    trees = sum(row.parent is None for row in rows)
    read = f"{len(threads):,} threads with {in_threads:,} messages, from {trees:,} trees with {len(rows):,}"
    note(f"{source}: {read}. Messages left out: {told}")
    return threads


def _usable_messages(
    rows: Sequence[TreeMessage], language: str, reasons: Counter[str], left_out: Callable[[Damage], None]
) -> dict[str, TreeMessage]:
    """By id, parents first: the messages that can stand in a thread. Why the others cannot is counted or goes to `left_out`."""
    known: dict[str, TreeMessage] = {}
    replies: dict[str | None, list[TreeMessage]] = defaultdict(list)
    for row in rows:
        if row.id in known:
            left_out(Damage(TWICE, f"{row.where}: the message_id {row.id!r} was there before, at {known[row.id].where}"))
            continue
        known[row.id] = row
        replies[row.parent].append(row)
    usable: dict[str, TreeMessage] = {}
    waiting = deque(replies[None])
    while waiting:
        row = waiting.popleft()
        waiting += replies[row.id]
        del known[row.id]
        reason = row.problem(language) or ("below one that is left out" if row.parent is not None and row.parent not in usable else None)
        if reason:
            reasons[reason] += 1
            continue
        try:
            _check(row, usable[row.parent].role if row.parent is not None else "assistant")
        except Damage as damage:
            left_out(damage)
        else:
            usable[row.id] = row
    for row in known.values():
        left_out(Damage(NO_PARENT, f"{row.where}: its parent_id {row.parent!r} leads to no message that begins a tree"))
    return usable


def _best_thread(root: TreeMessage, replies: Mapping[str | None, list[TreeMessage]]) -> list[TreeMessage]:
    thread = [root]
    while candidates := replies.get(thread[-1].id):
        thread.append(min(candidates, key=lambda reply: (reply.rank, reply.id not in replies)))
    return thread


def _check(row: TreeMessage, role_before: Role) -> None:
    content_of(row.text, f"{row.where}: 'text'")
    if row.role == role_before:
        above = f"the message above it is from {row.role} too" if row.parent is not None else "it begins a tree, which the prompter does"
        raise Damage(OUT_OF_TURN, f"{row.where}: is from {row.role}, but {above}")


def _tree_message(row: Mapping[str, Any], parent: str | None, where: str) -> TreeMessage:
    role = _ROLES.get(str(row.get("role")))
    if role is None:
        raise Damage(UNKNOWN_ROLE, f"{where}: is from {row.get('role')!r}; expected {' or '.join(_ROLES)}")
    identity, rank = row.get("message_id"), row.get("rank")
    if not isinstance(identity, str) or not isinstance(parent, str | None) or not isinstance(rank, int | float | None):
        got = f"{identity!r}, {parent!r} and {rank!r}"
        raise Damage(NOT_A_STRING, f"{where}: expected texts as message_id and parent_id and a number as rank, got {got}")
    return TreeMessage(
        id=identity,
        parent=parent,
        role=role,
        text=row.get("text"),
        language=row.get("lang"),
        rank=math.inf if rank is None or math.isnan(rank) else rank,
        is_deleted=bool(row.get("deleted")),
        is_approved=row.get("review_result") is True,
        where=where,
    )
