"""Conversations: every form gives the same messages, whatever is wrong is named by its place, and nothing goes in silence."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_kit.data import Conversation, read_conversations
from gpt_kit.data.conversation_forms import TEMPLATES, prompt_template
from gpt_kit.errors import ConfigError, DataError
from gpt_kit.tokenizers import Message

TURNS = [("user", "Hi"), ("assistant", "Hello, {input} <|user|>!"), ("user", "2 + 2?"), ("assistant", " 4\n")]
MESSAGES = tuple(Message(role, text) for role, text in TURNS)  # type: ignore[arg-type]
SHORT = MESSAGES[:2]
OPENAI = {"messages": [{"role": role, "content": text} for role, text in TURNS]}
SHAREGPT = {"id": "x", "conversations": [{"from": "human" if role == "user" else "gpt", "value": text} for role, text in TURNS]}
PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


def json_lines(*records: object) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def write(path: Path, *records: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(json_lines(*records))
    return str(path)


def refused(path: Path, record: object, **options) -> str:
    """What is said of a good record and then this one; and that leaving it out leaves the good one."""
    good = {"instruction": "a", "output": "b"}
    source = write(path / "bad.jsonl", good, record)
    with pytest.raises(DataError) as caught:
        read_conversations(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    said: list[str] = []
    assert len(read_conversations(source, on_damaged="skip", note=said.append, **options)) == 1
    assert said[0] == f"left out: {message}" and said[1].startswith(f"{source}: 1 bad records were left out (1 × ")
    return message.removeprefix(source)


# --- forms


@pytest.mark.parametrize("record", [OPENAI, SHAREGPT], ids=["messages", "ShareGPT"])
@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_every_form_in_every_file_is_the_same_conversation(record: dict, kind: str, packing: str, tmp_path: Path) -> None:
    path = tmp_path / f"chats.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([record, record]), path)
    else:
        path.write_bytes(json_lines(record, record) if kind == "jsonl" else json.dumps([record, record], indent=2).encode())
    packed = tmp_path / f"packed/chats.{kind}{packing}"
    packed.parent.mkdir()
    packed.write_bytes(PACK[packing](path.read_bytes()))
    places = [f"{packed}:1", f"{packed}:2"] if kind == "jsonl" else [f"{packed}[0]", f"{packed}[1]"]
    assert read_conversations(str(packed)) == [Conversation(MESSAGES, place) for place in places]


@pytest.mark.parametrize(
    ("record", "question"),
    [
        ({"instruction": "Add.", "input": "2 + 2", "output": "4"}, "Add.\n\n2 + 2"),
        ({"instruction": "Add.", "input": "", "output": "4"}, "Add."),
        ({"instruction": "Add.", "output": "4"}, "Add."),
        ({"prompt": "Add.", "completion": "4", "input": None}, "Add."),
        ({"instruction": "Add.", "context": "2 + 2", "response": "4", "category": "sums"}, "Add.\n\n2 + 2"),
    ],
)
def test_an_instruction_is_a_question_and_an_answer(record: dict, question: str, tmp_path: Path) -> None:
    (conversation,) = read_conversations(write(tmp_path / "a.jsonl", record))
    assert conversation.messages == (Message("user", question), Message("assistant", "4"))


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ({"system": "S", "conversations": SHAREGPT["conversations"][:2]}, (Message("system", "S"), *SHORT)),
        ({"conversations": [{"from": "system", "value": "S"}, *SHAREGPT["conversations"][:2]]}, (Message("system", "S"), *SHORT)),
        ({"system": " ", "messages": [{"role": "system", "content": ""}, *OPENAI["messages"][:2]]}, SHORT),
        ({"system": "S", "instruction": "a", "output": "b"}, tuple(map(Message, ("system", "user", "assistant"), "Sab"))),
    ],
)
def test_a_system_message_stands_first_wherever_it_was_written(messages: dict, expected: tuple, tmp_path: Path) -> None:
    assert read_conversations(write(tmp_path / "a.jsonl", messages))[0].messages == expected


def test_real_records(data_folder: Path) -> None:
    path = data_folder / "instructions" / "instruction-data.json"
    records = json.loads(path.read_text())
    conversations = read_conversations(str(path))
    assert len(conversations) == len(records) == 1100
    for record, conversation in zip(records, conversations, strict=True):
        question, answer = conversation.messages
        assert answer.content == record["output"]
        assert question.content == record["instruction"] + ("\n\n" + record["input"] if record["input"] else "")


# --- templates


def test_the_alpaca_template_is_the_published_one() -> None:
    """PROMPT_DICT of tatsu-lab/stanford_alpaca, train.py."""
    published = {
        "prompt_input": (
            "Below is an instruction that describes a task, paired with an input that provides further context. "
            "Write a response that appropriately completes the request.\n\n"
            "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
        ),
        "prompt_no_input": (
            "Below is an instruction that describes a task. "
            "Write a response that appropriately completes the request.\n\n"
            "### Instruction:\n{instruction}\n\n### Response:"
        ),
    }
    assert TEMPLATES["alpaca"] == (published["prompt_input"], published["prompt_no_input"])


@settings(max_examples=100, deadline=None, database=None)
@given(*[st.text(st.sampled_from("{}input struction%\\1$"), min_size=1, max_size=30)] * 2)
def test_a_text_of_ones_own_is_filled_once(instruction: str, context: str) -> None:
    """Braces, or even the places themselves, in a record stay what they are."""
    filled = prompt_template("Q: {instruction} {x}\nC: {input}").fill(instruction, context)
    assert filled == "Q: " + instruction + " {x}\nC: " + context
    assert prompt_template("Q: {instruction}\n\n{input}").fill(instruction, "") == "Q: " + instruction


def test_a_template_without_a_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'alpacca' \(did you mean 'alpaca'\?\) has no \{instruction\}\. Give plain or alpaca, or"):
        prompt_template("alpacca")
    said = refused(tmp_path, {"instruction": "a", "input": "b", "output": "c"}, template="Q: {instruction}")
    assert said == ":2: has an 'input', and the template has no {input} where it could stand"


# --- what is wrong


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("just a text", ":2: expected an object with the keys of a conversation, got a str"),
        ({"text": "x"}, ":2: its keys ('text') are those of no form of conversation. Expected messages, conversations,"),
        ({"instruction": "a", "output": ""}, ":2: 'output' is empty"),
        ({"instruction": "a", "output": None}, ":2: 'output': expected a text, got null"),
        ({"instruction": "a", "output": "b", "input": ["c"]}, ":2: 'input': expected a text, got a list"),
        ({"instruction": " ", "output": "b"}, ":2: 'instruction' is empty"),
        ({"messages": "Hi"}, ":2: expected a list of messages under 'messages', got a str"),
        ({"messages": []}, ":2: there are no messages, so there is no question"),
        ({"messages": ["Hi"]}, ":2: message 1: expected the keys 'role' and 'content', got a str"),
        (
            {"messages": [{"role": "user", "value": "Hi"}]},
            ":2: message 1: expected the keys 'role' and 'content', got the keys 'role',",
        ),
        ({"messages": [{"role": "tool", "content": "Hi"}]}, ":2: message 1 is from 'tool'; expected system, user, assistant"),
        ({"messages": [{"role": ["user"], "content": "Hi"}]}, ":2: message 1 is from ['user']; expected"),
        ({"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}, ":2: message 1: expected a text, got a list"),
        ({"messages": [{"role": "user", "content": " \n"}]}, ":2: message 1 is empty"),
        ({"messages": [{"role": "user", "content": "a\0b"}]}, ":2: message 1: character 1 is NUL"),
        ({"messages": OPENAI["messages"][1:]}, ":2: message 1 is from assistant, where user was expected"),
        ({"conversations": [*SHAREGPT["conversations"], SHAREGPT["conversations"][1]]}, ":2: message 5 is from assistant, where user was"),
        ({"conversations": [{"from": "bing", "value": "x"}]}, ":2: message 1 is from 'bing'; expected system, user, assistant, human, gpt"),
    ],
)
def test_a_bad_record_is_named_by_its_line_or_left_out_and_counted(record: object, said: str, tmp_path: Path) -> None:
    assert refused(tmp_path, record).startswith(said)


def test_a_line_that_is_no_json_is_a_bad_record_too(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json_lines(OPENAI) + b"{\n")
    with pytest.raises(DataError, match=r"a\.jsonl:2: not valid JSON"):
        read_conversations(str(path))
    assert [found.messages for found in read_conversations(str(path), on_damaged="skip")] == [MESSAGES]


def test_many_bad_records_are_counted_by_kind_and_not_told_one_by_one(tmp_path: Path) -> None:
    said: list[str] = []
    source = write(tmp_path / "a.jsonl", *[{"text": "x"}] * 6, OPENAI, *[{"instruction": "a", "output": ""}] * 3)
    assert len(read_conversations(source, on_damaged="skip", note=said.append)) == 1
    assert len(said) == 6
    assert said[-1] == f"{source}: 9 bad records were left out (6 × key missing, 3 × empty message)"


def test_a_source_without_a_conversation_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "a.txt").write_text("A text.")
    for source, said in {
        "empty.jsonl": "empty.jsonl: holds no conversation to learn from",
        "a.txt": r"a\.txt: is no file of records\. Conversations are read from files that end in \.jsonl, \.json, \.parquet",
        "tinyshakespeare": "tinyshakespeare: is no file of records",
        "-": "-: is no file of records",
        "emty.jsonl": r"emty\.jsonl: there is no such file or folder \(did you mean 'empty\.jsonl'\?\)",
    }.items():
        with pytest.raises(DataError, match=said):
            read_conversations(source)


def test_a_folder_is_all_its_files_of_records_and_says_what_it_left_out(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", OPENAI)
    write(tmp_path / "below" / "a.jsonl", {"instruction": "a", "output": "b"})
    (tmp_path / "README.md").write_text("About this folder.")
    said: list[str] = []
    found = read_conversations(str(tmp_path), note=said.append)
    assert [Path(conversation.source).name for conversation in found] == ["b.jsonl:1", "a.jsonl:1"]
    assert len(said) == 1 and "1 of 3 files are no files of records" in said[0]
