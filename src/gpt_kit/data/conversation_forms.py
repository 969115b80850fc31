"""One record -> the messages of one conversation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gpt_kit.config.suggest import did_you_mean
from gpt_kit.data.damage import KEY_MISSING, NOT_A_STRING, Damage, clean_string
from gpt_kit.data.records import Record, listed_keys
from gpt_kit.errors import ConfigError, DataError
from gpt_kit.tokenizers import Message, check_messages
from gpt_kit.tokenizers.chat import Role

EMPTY, OUT_OF_TURN, UNKNOWN_ROLE, NO_PLACE = "empty message", "out of turn", "unknown role", "no place in the template"
INSTRUCTION_KEYS = (("instruction", "input", "output"), ("prompt", "input", "completion"), ("instruction", "context", "response"))
"""What is asked, what it is about (may be missing or empty), the answer: Alpaca, OpenAI, Dolly."""
MESSAGE_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
SHAREGPT_ROLES: dict[str, Role] = {**MESSAGE_ROLES, "human": "user", "gpt": "assistant", "chatgpt": "assistant"}
_PLACE = re.compile(r"\{(instruction|input)\}")


class PromptTemplate(NamedTuple):
    """The user's message of an instruction record: a text with {instruction} and {input}, and one for records without input."""

    with_input: str
    without_input: str

    def fill(self, instruction: str, context: str) -> str:
        """Both places at once, so that braces in the record stay text."""
        values = {"instruction": instruction, "input": context}
        return _PLACE.sub(lambda place: values[place[1]], self.with_input if context else self.without_input)


# Taori et al. 2023, as published: https://github.com/tatsu-lab/stanford_alpaca
_ALPACA = "Below is an instruction that describes a task{}. Write a response that appropriately completes the request.\n\n"
TEMPLATES = {
    "plain": PromptTemplate("{instruction}\n\n{input}", "{instruction}"),
    "alpaca": PromptTemplate(
        _ALPACA.format(", paired with an input that provides further context")
        + "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:",
        _ALPACA.format("") + "### Instruction:\n{instruction}\n\n### Response:",
    ),
}


def prompt_template(template: str) -> PromptTemplate:
    """A template by name, or a text with {instruction} and, for records that have one, {input}; white space at its end goes where the
    input is empty. Raises: ConfigError for a text without {instruction}.
    """
    if template in TEMPLATES:
        return TEMPLATES[template]
    if "{instruction}" not in template:
        raise ConfigError(
            f"the template {template!r}{did_you_mean(template, TEMPLATES)} has no {{instruction}}. "
            f"Give {' or '.join(TEMPLATES)}, or a text with {{instruction}} and {{input}} where these shall stand"
        )
    return PromptTemplate(template, template.replace("{input}", "").rstrip())


def messages_of(record: Record, prompt: PromptTemplate) -> tuple[Message, ...]:
    """The messages of a record in whichever form it has. Raises: Damage naming its place."""
    value, where = record.value, record.where
    if not isinstance(value, Mapping):
        raise Damage(KEY_MISSING, f"{where}: expected an object with the keys of a conversation, got {_kind(value)}")
    messages = list(_messages(value, where, prompt))
    if not _is_blank(value.get("system")) and not (messages and messages[0].role == "system"):
        messages.insert(0, Message("system", content_of(value["system"], f"{where}: 'system'")))
    try:
        check_messages(messages)
    except DataError as error:
        raise Damage(OUT_OF_TURN, f"{where}: {error}") from None
    return tuple(messages)


def content_of(value: object, what: str) -> str:
    """`value` if it is a text that can be learned. Raises: Damage, beginning with `what`."""
    if not isinstance(value, str):
        raise Damage(NOT_A_STRING, f"{what}: expected a text, got {_kind(value)}")
    if _is_blank(value):
        raise Damage(EMPTY, f"{what} is empty")
    for found in clean_string(value, what, replace=False):
        if isinstance(found, Damage):
            raise found
    return value


def _messages(value: Mapping[str, Any], where: str, prompt: PromptTemplate) -> Iterator[Message]:
    if "messages" in value:
        return _listed(value["messages"], "messages", "role", "content", MESSAGE_ROLES, where)
    if "conversations" in value:
        return _listed(value["conversations"], "conversations", "from", "value", SHAREGPT_ROLES, where)
    for keys in INSTRUCTION_KEYS:
        if keys[0] in value and keys[2] in value:
            return iter(_instruction(value, keys, where, prompt))
    forms = [f"{asked} + {answer}" for asked, _, answer in INSTRUCTION_KEYS]
    raise Damage(
        KEY_MISSING,
        f"{where}: its keys ({listed_keys(value)}) are those of no form of conversation. "
        f"Expected messages, conversations, message_id + parent_id, {', '.join(forms[:-1])} or {forms[-1]}",
    )


def _instruction(value: Mapping[str, Any], keys: tuple[str, str, str], where: str, prompt: PromptTemplate) -> list[Message]:
    asked, about, answer = keys
    context = "" if _is_blank(value.get(about)) else content_of(value[about], f"{where}: {about!r}")
    if context and "{input}" not in prompt.with_input:
        raise Damage(NO_PLACE, f"{where}: has an {about!r}, and the template has no {{input}} where it could stand")
    question = prompt.fill(content_of(value[asked], f"{where}: {asked!r}"), context)
    return [Message("user", question), Message("assistant", content_of(value[answer], f"{where}: {answer!r}"))]


def _listed(value: object, key: str, role_key: str, content_key: str, roles: Mapping[str, Role], where: str) -> Iterator[Message]:
    if not isinstance(value, list):
        raise Damage(NOT_A_STRING, f"{where}: expected a list of messages under {key!r}, got {_kind(value)}")
    for number, item in enumerate(value, 1):
        place = f"{where}: message {number}"
        if not isinstance(item, Mapping) or role_key not in item or content_key not in item:
            got = f"the keys {listed_keys(item)}" if isinstance(item, Mapping) else _kind(item)
            raise Damage(KEY_MISSING, f"{place}: expected the keys {role_key!r} and {content_key!r}, got {got}")
        role = roles.get(item[role_key]) if isinstance(item[role_key], str) else None
        if role is None:
            raise Damage(UNKNOWN_ROLE, f"{place} is from {item[role_key]!r}; expected {', '.join(roles)}")
        if role != "system" or not _is_blank(item[content_key]):  # an empty system message says nothing
            yield Message(role, content_of(item[content_key], place))


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _kind(value: object) -> str:
    return "null" if value is None else f"a {type(value).__name__}"
