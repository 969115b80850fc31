"""Any tokenizer.json, through the `tokenizers` library: trained BPE, GPT-1, and what others have published.

The document is taken as it stands, with four corrections that keep content exact: no truncation, no padding, no dropout of
merges, and no special token recognised in text. An added token that is not declared special is a word of the vocabulary and is
recognised, unless it is spelled like a mark (`<tool_call>`): then it is one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gpt_kit.errors import TokenizerError
from gpt_kit.tokenizers.base import END_OF_TEXT, Tokenizer, well_formed
from gpt_kit.tokenizers.document import BYTE_OF_CHARACTER, content_digest, special_tokens_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GPT1_CONTENT_DIGEST = "808c8c9229faefb786270c68a1b83d86f1aeb0eff202891923ac0479cfb46359"
"""`content_digest` of GPT-1's document; its 40,478 entries are too many to compare by eye and few enough to hash."""
_MARK = re.compile(r"[<\[]\S+[>\]]")


class HuggingFaceTokenizer(Tokenizer):
    """A `tokenizers.Tokenizer` that never reads content as special tokens."""

    def __init__(self, document: Mapping[str, Any], roles: Mapping[str, str] | None = None) -> None:
        """`roles` are the special tokens that tokenizer_config.json names, such as {"eos_token": "</s>"}.

        Raises: TokenizerError when the `tokenizers` library cannot read the document.
        """
        import tokenizers

        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(_corrected(document)))
        except Exception as error:  # the library raises nothing narrower
            raise TokenizerError(f"tokenizers {tokenizers.__version__} cannot read this tokenizer.json ({error})") from None
        self.roles = dict(roles or {})
        # transformers, too, makes every token that has a role a special token.
        known = {token.content for token in self._tokenizer.get_added_tokens_decoder().values() if token.special}
        self._tokenizer.add_special_tokens([name for name in self.roles.values() if name not in known])
        self._tokenizer.encode_special_tokens = True  # "encode them as text", which the library forgets when it is pickled
        document = self.document()
        self.special_tokens = special_tokens_of(document)
        numbers = self._tokenizer.get_vocab(with_added_tokens=True).values()
        self.vocab_size = max(numbers, default=-1) + 1
        self._holes = set(range(self.vocab_size)).difference(numbers)
        self.end_of_text_id = self.special_tokens.get(self.roles.get("eos_token", END_OF_TEXT))
        self._is_byte_level = (document["decoder"] or {}).get("type") == "ByteLevel"
        model = document["model"]
        is_gpt1 = model.get("end_of_word_suffix") and content_digest(document) == GPT1_CONTENT_DIGEST
        self.name = "gpt1" if is_gpt1 else str(model["type"]).lower()

    def encode_batch(self, texts: Sequence[str], threads: int | None = None) -> list[list[int]]:
        """`encode` for each text. The library has one pool of threads (one per core); `threads=1` goes without it."""
        if threads == 1 or len(texts) < 2:
            return [self.encode(text) for text in texts]
        encodings = self._tokenizer.encode_batch_fast([well_formed(text) for text in texts], add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def encode_arrays(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        """As the base class says, in one call into the library, which works on its own threads."""
        import numpy

        return [numpy.asarray(ids, dtype=numpy.uint32) for ids in self.encode_batch(texts)]

    def document(self) -> dict[str, Any]:
        """The document that the library writes."""
        document: dict[str, Any] = json.loads(self._tokenizer.to_str())
        return document

    def __reduce__(self) -> tuple[type[HuggingFaceTokenizer], tuple[dict[str, Any], dict[str, str]], dict[str, str | None]]:
        return (
            HuggingFaceTokenizer,
            (self.document(), self.roles),
            {"chat_template": self.chat_template, "closing_token": self.closing_token},
        )

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _decode(self, ids: list[int]) -> str:
        if self._holes and (missing := self._holes.intersection(ids)):
            raise self._no_such_id(min(missing))
        return self._tokenizer.decode(ids, skip_special_tokens=False)

    def token_bytes(self, token: int) -> bytes | None:
        """As the base class says; a byte-level vocabulary spells its bytes."""
        text = self.decode([token])
        spelling = self._tokenizer.id_to_token(token) or ""
        if not self._is_byte_level or token in self._tokenizer.get_added_tokens_decoder():
            return super().token_bytes(token) if "\ufffd" not in text else None
        return bytes(BYTE_OF_CHARACTER[character] for character in spelling)

    def _is_ordinary(self, name: str) -> bool:
        # A mark that lies in the vocabulary without being declared, such as <pad>, may become special under its old id.
        return self._tokenizer.token_to_id(name) is not None and not _MARK.fullmatch(name)

    def _extended(self, names: list[str]) -> Tokenizer:
        document = self.document()
        other = HuggingFaceTokenizer(document, self.roles)
        other._tokenizer.add_special_tokens(names)
        return HuggingFaceTokenizer(other.document(), self.roles)


def _corrected(document: Mapping[str, Any]) -> dict[str, Any]:
    model = {key: value for key, value in document["model"].items() if key != "dropout"}
    tokens = document.get("added_tokens", [])
    added = [{**token, "special": token["special"] or bool(_MARK.fullmatch(token["content"]))} for token in tokens]
    return {**document, "truncation": None, "padding": None, "added_tokens": added, "model": model}
