"""Conversations -> examples to learn from, and the refusal of those that cannot teach.

What is learned is decided by position: the assistant's words and the end token after them. A conversation that is longer than the
model's context loses whole exchanges at its end, never a part of an answer: a cut answer would teach to stop in mid-sentence, or not
to stop at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gpt_kit.data import Conversation, Example
from gpt_kit.errors import DataError
from gpt_kit.tokenizers import Message, Tokenizer, render_chat

NAMED = 5  # unusable conversations that are named one by one


@dataclass(frozen=True, slots=True)
class Encoded:
    """The examples of some conversations, and what was done to them."""

    examples: list[Example]
    shortened: int
    """Conversations that lost exchanges at their end."""
    unusable: list[str]
    """Why others cannot teach, each by its place."""


def encode_conversations(
    conversations: Sequence[Conversation], tokenizer: Tokenizer, max_length: int, progress: Callable[[int], None] = lambda _: None
) -> Encoded:
    """Encode each conversation in the tokenizer's chat format, for a model that reads `max_length` tokens at once."""
    encoded = Encoded([], 0, [])
    shortened = 0
    for number, conversation in enumerate(conversations, start=1):
        example, exchanges = _longest_that_fits(conversation, tokenizer, max_length)
        if problem := problem_of(example, max_length):
            encoded.unusable.append(f"{conversation.source}: {problem}")
        else:
            encoded.examples.append(example)
            shortened += exchanges > 0
        progress(number)
    return Encoded(encoded.examples, shortened, encoded.unusable)


def problem_of(example: Example, max_length: int) -> str:
    """Why an example cannot teach; empty where it can."""
    if not any(example.trained[1:]):
        return "it has no answer, so no token of it would be trained"
    last = max(i for i, trained in enumerate(example.trained) if trained)
    if example.num_trained == 1:
        return "its answer is empty: the model would learn to say nothing"
    if len(example.ids) > max_length + 1:
        return f"its {len(example.ids):,} tokens are more than the {max_length:,} that the model reads, so its answer would be cut off"
    if last != len(example.ids) - 1:
        return "its end token is not trained, so the model would not learn to stop"
    return ""


def refuse_unusable(encoded: Encoded, source: str) -> None:
    """Raises: DataError naming the first of the conversations that cannot teach."""
    if encoded.unusable:
        more = len(encoded.unusable) - NAMED
        raise DataError(
            f"{source}: {len(encoded.unusable):,} of {len(encoded.unusable) + len(encoded.examples):,} conversations cannot teach. Mend "
            "them, give the model a longer context, or leave them out with --sft.on-unusable skip:\n  - "
            + "\n  - ".join(encoded.unusable[:NAMED])
            + (f"\n  - … and {more:,} more" if more > 0 else "")
        )


def _longest_that_fits(conversation: Conversation, tokenizer: Tokenizer, max_length: int) -> tuple[Example, int]:
    """The whole conversation up to its last answer or, of a longer one, as many exchanges as fit; and how many were left out."""
    example = Example([], [], conversation.source)
    for number, messages in enumerate(_prefixes(conversation.messages)):
        chat = render_chat(tokenizer, messages)
        example = Example(chat.ids, chat.trained, conversation.source)
        if len(example.ids) <= max_length + 1:
            return example, number
    return example, 0


def _prefixes(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """The conversation up to its last answer, up to the one before that, and so on."""
    for end in range(len(messages), 0, -1):
        if messages[end - 1].role == "assistant":
            yield messages[:end]
