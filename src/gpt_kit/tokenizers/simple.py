"""Characters and bytes: the two tokenizers that need no algorithm.

A character tokenizer knows the characters of one corpus and refuses others. A byte tokenizer knows every text, at the price of
about one token per letter. Both lose nothing: decode(encode(text)) == text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gpt_kit.errors import TokenizerError
from gpt_kit.tokenizers.base import END_OF_TEXT, Tokenizer, appended
from gpt_kit.tokenizers.document import BYTE_TO_CHARACTER, byte_level, byte_level_document, character_document

if TYPE_CHECKING:
    import numpy as np


class CharacterTokenizer(Tokenizer):
    """One id per character, in the order given; special tokens after them."""

    def __init__(self, characters: Sequence[str], special_tokens: Mapping[str, int] | None = None) -> None:
        self.name = "char"
        self.characters = "".join(characters)
        self.special_tokens = dict(special_tokens or {})
        self.vocab_size = len(self.characters) + len(self.special_tokens)
        self.end_of_text_id = self.special_tokens.get(END_OF_TEXT)
        self.roles = {}
        self._pieces = [*self.characters, *self.special_tokens]

    def document(self) -> dict[str, Any]:
        """A word-level model over text cut at every character."""
        return character_document(self.characters, self.special_tokens)

    def _encode(self, text: str) -> list[int]:
        import numpy as np

        points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        # Code points beyond the table share its last entry, which is always unknown.
        ids = self._id_of_point[np.minimum(points, len(self._id_of_point) - 1)]
        unknown = np.flatnonzero(ids < 0)
        if len(unknown):
            position = int(unknown[0])
            raise TokenizerError(
                f"the character {text[position]!r} (U+{ord(text[position]):04X}) at position {position} is not among the "
                f"{len(self.characters)} characters of this tokenizer. Remove it from the text, "
                "train a char tokenizer on text that has it, or use 'byte', 'bpe' or 'gpt2', which know every character"
            )
        numbers: list[int] = ids.tolist()
        return numbers

    def _decode(self, ids: list[int]) -> str:
        return "".join([self._pieces[number] for number in ids])

    def _is_ordinary(self, name: str) -> bool:
        return len(name) == 1  # known or not: a single character is content here

    def _extended(self, names: list[str]) -> Tokenizer:
        return CharacterTokenizer(self.characters, appended(self.special_tokens, names, self.vocab_size))

    @cached_property
    def _id_of_point(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """Code point -> id, -1 where there is none: (highest code point + 2,)."""
        import numpy as np

        points = [ord(character) for character in self.characters]
        table = np.full(max(points, default=0) + 2, -1, dtype=np.int32)
        table[points] = np.arange(len(points))
        return table


class ByteTokenizer(Tokenizer):
    """The 256 bytes of UTF-8 under their own values, then `<|endoftext|>` (256)."""

    def __init__(self, special_tokens: Mapping[str, int] | None = None) -> None:
        self.name = "byte"
        self.special_tokens = {END_OF_TEXT: 256} if special_tokens is None else dict(special_tokens)
        self.vocab_size = 256 + len(self.special_tokens)
        self.end_of_text_id = self.special_tokens.get(END_OF_TEXT)
        self.roles = {}
        self._pieces = [*(bytes([byte]) for byte in range(256)), *(name.encode() for name in self.special_tokens)]

    def document(self) -> dict[str, Any]:
        """Byte-level BPE without a single merge, on text that is not cut."""
        vocab = {BYTE_TO_CHARACTER[byte]: byte for byte in range(256)}
        return byte_level_document(vocab, [], self.special_tokens, byte_level(use_regex=False))

    def _encode(self, text: str) -> list[int]:
        return list(text.encode())

    def _decode(self, ids: list[int]) -> str:
        return b"".join([self._pieces[number] for number in ids]).decode(errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """As the base class says."""
        if not 0 <= token < self.vocab_size:
            raise self._no_such_id(token)
        return self._pieces[token]

    def _is_ordinary(self, name: str) -> bool:
        return len(name.encode()) == 1

    def _extended(self, names: list[str]) -> Tokenizer:
        return ByteTokenizer(appended(self.special_tokens, names, self.vocab_size))
