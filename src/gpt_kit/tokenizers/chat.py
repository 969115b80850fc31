r"""The chat format: how messages become ids.

    <|user|> question <|assistant|> answer <|endoftext|> <|user|> … <|assistant|> answer <|endoftext|>

with nothing between, not even a space. Every answer ends with the tokenizer's end token. A system message may come first; it has no
token of its own and stands before the first question, parted from it by an empty line.

The marks are placed by id and every message is encoded by itself as content, so no text can become a mark. The same format is
written down as a Jinja template, which is saved with the tokenizer: `transformers` then makes the same ids of the same messages.
Templates are programs; the kit writes this one and runs none.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gpt_kit.errors import DataError, TokenizerError
from gpt_kit.tokenizers.base import END_OF_TEXT, Tokenizer

USER = "<|user|>"
ASSISTANT = "<|assistant|>"
Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")

CHAT_TEMPLATE = r"""{%- if messages[0]['role'] == 'system' -%}
  {%- set opening, turns = messages[0]['content'] + '\n\n', messages[1:] -%}
{%- else -%}
  {%- set opening, turns = '', messages -%}
{%- endif -%}
{%- if not turns or (add_generation_prompt and turns[-1]['role'] == 'assistant') -%}
  {{- raise_exception('there is no question to answer') -}}
{%- endif -%}
{%- for message in turns -%}
  {%- if message['role'] != ('user' if loop.index0 is even else 'assistant') -%}
    {{- raise_exception('user and assistant take turns, beginning with the user; only the first message can be a system message') -}}
  {%- elif message['role'] == 'user' -%}
    {{- '<|user|>' + (opening if loop.first else '') + message['content'] -}}
  {%- else -%}
    {{- '<|assistant|>' -}}{% generation %}{{- message['content'] + eos_token -}}{% endgeneration %}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""
"""What stands between the `generation` tags is what is learned; transformers gives it as `assistant_masks`."""


@dataclass(frozen=True, slots=True)
class Message:
    """What one side says."""

    role: Role
    content: str


class ChatIds(NamedTuple):
    """A conversation as ids (T,), and which of them are learned from (T,): the assistant's words and the end token after them."""

    ids: list[int]
    trained: list[bool]


def chat_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer with this chat format: USER and ASSISTANT (GPT-2: 50257, 50258), and END_OF_TEXT if it has no end token.

    Raises: TokenizerError where one of them is an ordinary piece of the vocabulary.
    """
    end = [] if tokenizer.end_of_text_id is not None else [END_OF_TEXT]
    chat = copy.copy(tokenizer.with_special_tokens([USER, ASSISTANT, *end]))  # it might be `tokenizer` itself
    chat.chat_template, chat.closing_token = CHAT_TEMPLATE, None
    return chat


def check_chat_tokenizer(tokenizer: Tokenizer) -> None:
    """Raises: TokenizerError where `tokenizer` has no chat format, or another one than this."""
    if tokenizer.chat_template is None:
        raise TokenizerError(
            "this tokenizer has no chat format, so its model was never taught to answer. Teach it: gpt-kit finetune sft --model MODEL …"
        )
    if tokenizer.chat_template.strip() != CHAT_TEMPLATE.strip() or not _has_marks(tokenizer):
        raise TokenizerError(
            f"this tokenizer has a chat format of its own (chat_template.jinja), and the kit speaks only {USER} … {ASSISTANT} …: "
            "templates are programs, which it does not run. `transformers` does; or teach the model this format: gpt-kit finetune sft"
        )


def _has_marks(tokenizer: Tokenizer) -> bool:
    return {USER, ASSISTANT} <= tokenizer.special_tokens.keys() and tokenizer.end_of_text_id is not None


def check_messages(messages: Sequence[Message], add_generation_prompt: bool = False) -> None:
    """Raises: DataError unless user and assistant take turns, from the user on, after at most one system message.

    With `add_generation_prompt` the last word has to be the user's.
    """
    for number, message in enumerate(messages, 1):
        if message.role not in ROLES:
            raise DataError(f"message {number} has the role {message.role!r}; expected {', '.join(ROLES)}")
    opening = int(bool(messages) and messages[0].role == "system")
    for number, message in enumerate(messages[opening:]):
        expected = "assistant" if number % 2 else "user"
        if message.role != expected:
            raise DataError(
                f"message {number + opening + 1} is from {message.role}, where {expected} was expected: user and assistant take turns, "
                "beginning with the user, and only the first message can be a system message"
            )
    if len(messages) == opening:
        raise DataError(f"{'there is only a system message' if opening else 'there are no messages'}, so there is no question to answer")
    if add_generation_prompt and messages[-1].role == "assistant":
        raise DataError("the last message is the assistant's, so there is no question to answer")


def render_chat(tokenizer: Tokenizer, messages: Sequence[Message], add_generation_prompt: bool = False) -> ChatIds:
    """`messages` as ids; with `add_generation_prompt`, ready for the assistant's next answer.

    Raises: DataError for messages out of turn, TokenizerError for a tokenizer without this format, or for text it cannot spell.
    """
    check_chat_tokenizer(tokenizer)
    check_messages(messages, add_generation_prompt)
    marks = {role: [tokenizer.special_tokens[name]] for role, name in (("user", USER), ("assistant", ASSISTANT))}
    end = [] if tokenizer.end_of_text_id is None else [tokenizer.end_of_text_id]
    ids: list[int] = []
    trained: list[bool] = []
    opening = ""
    for message in messages:
        if message.role == "system":
            opening = message.content + "\n\n"
            continue
        is_answer = message.role == "assistant"
        content = tokenizer.encode(opening + message.content) + (end if is_answer else [])
        opening = ""
        ids += marks[message.role] + content
        trained += [False] + [is_answer] * len(content)
    if add_generation_prompt:
        ids, trained = ids + marks["assistant"], [*trained, False]
    return ChatIds(ids, trained)
