"""A tokenizer as GGUF holds it: byte-level BPE that cuts text as GPT-2 does, GPT-2's own or any other vocabulary.

It is taken from a tokenizer's document (the content of its tokenizer.json): every entry in the order of the ids, in GPT-2's printable
alphabet; the merges in their order; what kind of token each is. Special tokens are `control`, which llama.cpp finds in a text only
where it is asked to. What would become other ids there is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpt_kit.errors import TokenizerError

# llama.cpp's numbers for kinds of tokens (llama.h, llama_token_type).
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
NEVER_MET = "a \u0120"
"""A merge of a letter with the space after it. Those never stand in one word, so it never happens; llama.cpp asks for one at least."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GGUFVocabulary:
    """What stands under tokenizer.ggml.*"""

    tokens: list[str]
    """By id."""
    types: list[int]
    """By id."""
    merges: list[str]
    """Pairs with a space between, the first to be merged first."""
    begin_of_text_id: int
    end_of_text_id: int
    """Where writing stops."""
    chat_template: str | None


def gguf_vocabulary(
    document: Mapping[str, Any],
    vocab_size: int,
    *,
    end_of_text_id: int | None,
    begin_of_text_id: int | None = None,
    chat_template: str | None = None,
) -> GGUFVocabulary:
    """The vocabulary of a model with `vocab_size` entries, from its tokenizer's document.

    Ids that the tokenizer leaves free become unused tokens. `begin_of_text_id` is the end token where there is none.
    Raises: TokenizerError for a tokenizer that llama.cpp would not follow.
    """
    if problem := _why_not(document):
        raise TokenizerError(f"llama.cpp's gpt2 tokenizer is byte-level BPE that cuts text as GPT-2 does; this one {problem}")
    if end_of_text_id is None:
        raise TokenizerError("this tokenizer has no end token, and llama.cpp would take the token 11 for one and stop there")
    added = document["added_tokens"]
    entries: dict[int, str] = {number: token for token, number in document["model"]["vocab"].items()}
    entries |= {token["id"]: token["content"] for token in added}
    if max(entries) >= vocab_size:
        raise TokenizerError(
            f"the tokenizer has the id {max(entries)}, but the model has {vocab_size} entries. They do not belong together"
        )
    kinds = {token["id"]: CONTROL if token["special"] else USER_DEFINED for token in added}
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in document["model"]["merges"]]
    return GGUFVocabulary(
        tokens=[entries.get(number, f"[PAD{number}]") for number in range(vocab_size)],
        types=[kinds.get(number, NORMAL) if number in entries else UNUSED for number in range(vocab_size)],
        merges=merges or [NEVER_MET],
        begin_of_text_id=end_of_text_id if begin_of_text_id is None else begin_of_text_id,
        end_of_text_id=end_of_text_id,
        chat_template=chat_template,
    )


def _why_not(document: Mapping[str, Any]) -> str:
    """What of a document llama.cpp would do in another way; an empty text where there is nothing."""
    model, cut = document["model"], document.get("pre_tokenizer") or {}
    if model["type"] != "BPE" or cut.get("type") != "ByteLevel":
        return f"is a {model['type']} model on text cut by {cut.get('type', 'nothing')}"
    if document.get("normalizer"):
        return f"changes the text first ({document['normalizer']['type']})"
    if cut.get("add_prefix_space"):
        return "puts a space before every text"
    if model["merges"] and not cut.get("use_regex"):
        return "merges across words"
    for setting in ("ignore_merges", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(setting):
            return f"has {setting} = {model[setting]!r}"
    for token in document["added_tokens"]:
        if not token["special"] and (token.get("single_word") or token.get("lstrip") or token.get("rstrip")):
            return f"has the word {token['content']!r}, which takes heed of what is around it"
    return ""
