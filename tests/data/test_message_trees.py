"""Message trees: the thread of each tree is the best-ranked way through it, and every message left out is counted once."""

from __future__ import annotations

import gzip
import json
import math
import random
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpt_kit.data import read_conversations
from gpt_kit.errors import DataError

Row = dict[str, Any]


def row(name: str, parent: str | None, role: str, **changes: Any) -> Row:
    """A row with the columns of OpenAssistant/oasst1."""
    return {
        "message_id": name, "parent_id": parent, "user_id": "u", "created_date": "2023-02-05T14:23:50", "text": f"text {name}",
        "role": role, "lang": "en", "review_count": 3, "review_result": True, "deleted": False, "rank": None, "synthetic": False,
        "model_name": None, "detoxify": {"toxicity": 0.00044}, "message_tree_id": "t", "tree_state": "ready_for_export",
        "emojis": {"name": ["+1"], "count": [1]}, "labels": {"name": ["spam"], "value": [0.0], "count": [3]}, **changes,
    }  # fmt: skip


TREE = [
    row("q", None, "prompter"),
    row("a1", "q", "assistant", rank=1),
    row("a0", "q", "assistant", rank=0),
    row("a2", "q", "assistant", rank=None),
    row("q1", "a0", "prompter"),
    row("q2", "a0", "prompter"),  # as good as q1, and it has an answer
    row("b0", "q2", "assistant", rank=0, review_result=None),
    row("b1", "q2", "assistant", rank=1),
    row("q3", "b1", "prompter"),  # nobody answered
    row("c", "b0", "prompter"),  # below one that was not approved
    row("f", None, "prompter", lang="de"),
    row("f0", "f", "assistant", lang="de"),
    row("d", None, "prompter"),
    row("d0", "d", "assistant", deleted=True),
]
THREAD = ["q", "a0", "q2", "b1"]


def jsonl(path: Path, rows: list[Row]) -> str:
    path.write_text("".join(json.dumps(item) + "\n" for item in rows))
    return str(path)


def ids(source: str, **options: Any) -> list[list[str]]:
    found = read_conversations(source, **options)
    for conversation in found:
        roles = [message.role for message in conversation.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2) and roles
    return [[message.content.removeprefix("text ") for message in conversation.messages] for conversation in found]


def left_out(said: str) -> dict[str, int]:
    """Reason -> how many messages."""
    parts = said.partition("Messages left out: ")[2].split(", ")
    return {part.partition(" ")[2]: int(part.partition(" ")[0]) for part in parts if part != "none"}


def nested(rows: list[Row]) -> list[Row]:
    """The same trees as the release has them, replies inside."""

    def with_replies(item: Row) -> Row:
        return {**item, "replies": [with_replies(reply) for reply in rows if reply["parent_id"] == item["message_id"]]}

    return [{"message_tree_id": r["message_id"], "prompt": with_replies(r)} for r in rows if r["parent_id"] is None]


@pytest.mark.parametrize("form", ["rows", "trees", "parquet", "shuffled"])
def test_the_best_way_through_a_tree_and_what_became_of_the_rest(form: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = {"trees": nested(TREE), "shuffled": random.Random(1).sample(TREE, len(TREE))}.get(form, TREE)
    if form == "parquet":
        path = tmp_path / "a.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path = tmp_path / "a.jsonl.gz"
        path.write_bytes(gzip.compress("".join(json.dumps(item) + "\n" for item in rows).encode()))
    said: list[str] = []
    assert ids(str(path), note=said.append) == [THREAD]
    assert said[0].startswith(f"{path}: 1 threads with 4 messages, from 3 trees with 14. Messages left out: 3 ranked lower")
    assert left_out(said[0]) == {
        "ranked lower than another reply": 3, "not in 'en'": 2, "questions without an answer": 2, "not approved in review": 1,
        "below one that is left out": 1, "deleted": 1,
    }  # fmt: skip


def test_the_language_is_a_setting(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", TREE)
    assert ids(source, language="de") == [["f", "f0"]]
    assert ids(source, language="all") == [THREAD, ["f", "f0"]]
    with pytest.raises(DataError, match="holds no conversation"):
        ids(source, language="fr")


def reference(rows: list[Row]) -> list[list[str]]:
    """The same, written as one says it: by recursion over whole lists."""

    def usable(parent: str | None) -> list[Row]:
        return [r for r in rows if r["parent_id"] == parent and r["lang"] == "en" and r["review_result"] is True and not r["deleted"]]

    def best(item: Row) -> list[str]:
        def order(reply: Row) -> tuple[float, bool]:
            return (math.inf if reply["rank"] is None else reply["rank"], not usable(reply["message_id"]))

        replies = sorted(usable(item["message_id"]), key=order)
        return [item["message_id"], *(best(replies[0]) if replies else [])]

    threads = [best(root) for root in usable(None)]
    return [thread[: len(thread) // 2 * 2] for thread in threads if len(thread) > 1]


def random_trees(seed: int) -> list[Row]:
    rng = random.Random(seed)
    rows: list[Row] = []
    for i in range(rng.randint(1, 40)):
        parent = rng.choice([*rows, None, None])
        role = "prompter" if parent is None or parent["role"] == "assistant" else "assistant"
        changes = {
            "rank": rng.choice([None, 0, 1, 2]), "lang": rng.choice(["en"] * 9 + ["de"]), "deleted": rng.random() < 0.05,
            "review_result": rng.choice([True] * 9 + [False, None]),
        }  # fmt: skip
        rows.append(row(f"m{i}", parent and parent["message_id"], role, **changes))
    return rows


def test_random_trees_against_the_plain_recursion_and_every_message_is_accounted_for(tmp_path: Path) -> None:
    compared = 0
    for seed in range(150):
        rows = random_trees(seed)
        expected, said = reference(rows), []
        source = jsonl(tmp_path / "a.jsonl", rows)
        if not expected:
            with pytest.raises(DataError, match="holds no conversation"):
                read_conversations(source, note=said.append)
        else:
            assert ids(source, note=said.append) == expected
            compared += 1
        in_threads = int(re.search(r"with (\d+) messages", said[0])[1])  # type: ignore[index]
        assert in_threads == sum(map(len, expected)) and in_threads + sum(left_out(said[0]).values()) == len(rows)
    assert compared > 50


def test_a_tree_may_be_deeper_than_python_recurses(tmp_path: Path) -> None:
    rows = [row(f"m{i}", f"m{i - 1}" if i else None, "assistant" if i % 2 else "prompter") for i in range(3000)]
    assert len(ids(jsonl(tmp_path / "a.jsonl", rows))[0]) == 3000


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (row("x", "nobody", "assistant"), ":2: its parent_id 'nobody' leads to no message that begins a tree"),
        (row("x", "x", "assistant"), ":2: its parent_id 'x' leads to no"),
        (row("q", None, "prompter"), ":2: the message_id 'q' was there before, at "),
        (row("x", "q", "prompter"), ":2: is from user, but the message above it is from user too"),
        (row("x", None, "assistant"), ":2: is from assistant, but it begins a tree"),
        (row("x", "q", "human"), ":2: is from 'human'; expected prompter or assistant"),
        (row("x", "q", "assistant", text=None), ":2: 'text': expected a text, got null"),
        (row("x", "q", "assistant", text=" "), ":2: 'text' is empty"),
        (
            row("x", "q", "assistant", rank="best"),
            ":2: expected texts as message_id and parent_id and a number as rank, got 'x', 'q' and 'best'",
        ),
        ({"prompt": row("x", None, "prompter", replies="none")}, ":2: expected a list of messages under 'replies'"),
    ],
)
def test_a_bad_message_is_named_or_left_out(bad: Row, said: str, tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", [TREE[0], bad, row("a", "q", "assistant", rank=0)])
    with pytest.raises(DataError) as caught:
        read_conversations(source)
    assert str(caught.value).startswith(source + said) and "\n" not in str(caught.value)
    told: list[str] = []
    assert ids(source, on_damaged="skip", note=told.append) == [["q", "a"]]
    assert f"left out: {caught.value}" in told and "1 bad records were left out" in told[-1]


def test_oasst1_comes_from_the_hub_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of `datasets`, on a local file with the columns of the real one."""
    datasets = pytest.importorskip("datasets")
    path = tmp_path / "train.parquet"
    pq.write_table(pa.Table.from_pylist(TREE), path, row_group_size=5)
    real, asked = datasets.load_dataset, []

    def load_dataset(repository: str, config: str | None = None, **options: Any) -> Any:
        asked.append((repository, config, options))
        return real("parquet", data_files=str(path), cache_dir=str(tmp_path / "cache"), **options)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.chdir(tmp_path)
    assert ids("oasst1") == ids("OpenAssistant/oasst1") == [THREAD]
    assert asked == [("OpenAssistant/oasst1", None, {"split": "train", "streaming": False})] * 2
    assert read_conversations("oasst1")[0].source == "oasst1[0]"
