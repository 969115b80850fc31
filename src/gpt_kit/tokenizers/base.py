"""A tokenizer: text -> ids -> text.

Content is never read as a command: text that spells a special token is encoded as ordinary text, and only a caller who takes the
id from `special_tokens` can place one. Text that is not well formed (lone surrogates) is encoded with U+FFFD in their place.

What decides text <-> ids is written down once, as the content of a `tokenizer.json` (see document.py); saving, fingerprints
and recognising a tokenizer that comes from elsewhere all start from that document.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt_kit.errors import DataError, TokenizerError
from gpt_kit.tokenizers.document import fingerprint_of, with_closing_token, write_tokenizer_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

END_OF_TEXT = "<|endoftext|>"
BEGIN_OF_TEXT = "<bos>"


class Tokenizer(ABC):
    """Text <-> ids. The kinds differ in `_encode` and `_decode`; everything a caller sees stands here."""

    name: str
    """The kind: gpt2, gpt1, bpe, char, byte, or what a foreign tokenizer calls itself."""
    vocab_size: int
    """Entries V of the vocabulary, special tokens included: ids run from 0 to V - 1."""
    special_tokens: dict[str, int]
    """Spelling -> id of every special token."""
    end_of_text_id: int | None
    """The token between documents and after an answer; None where the vocabulary has none."""
    roles: dict[str, str]
    """What `transformers` calls some special tokens, such as {"pad_token": "<pad>"}."""
    closing_token: str | None = None
    """The special token behind a text that is to be classified, if any; `transformers` adds it by itself, `encode` never does."""
    chat_template: str | None = None
    """How messages become text, in Jinja; None where the vocabulary has no chat format (see chat.py). It decides no id of a text."""

    def encode(self, text: str) -> list[int]:
        """The ids of `text` as content: nothing is added, no special token is recognised.

        Raises: TokenizerError when the vocabulary cannot spell this text (characters only).
        """
        return self._encode(well_formed(text))

    def encode_array(self, text: str) -> NDArray[np.uint32]:
        """`encode` as an array (T,), which spares much text the way through Python's numbers. Safe on several threads at once."""
        import numpy

        return numpy.asarray(self.encode(text), dtype=numpy.uint32)

    def encode_arrays(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        """`encode_array` for each text, on the calling thread."""
        return [self.encode_array(text) for text in texts]

    def encode_batch(self, texts: Sequence[str], threads: int | None = None) -> list[list[int]]:
        """`encode` for each text, on several threads where the kind can use them (None: as many as help)."""
        del threads
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids` (a list, an array, a tensor). Special tokens read as spelled, invalid UTF-8 as U+FFFD.

        Raises: TokenizerError for an id outside the vocabulary.
        """
        try:
            whole = [operator.index(value) for value in (ids.tolist() if hasattr(ids, "tolist") else ids)]
        except TypeError:
            raise TokenizerError("decode takes one flat sequence of whole numbers; decode the rows of a batch one by one") from None
        for extreme in (min(whole, default=0), max(whole, default=0)):
            if not 0 <= extreme < self.vocab_size:
                raise self._no_such_id(extreme)
        return self._decode(whole)

    def token_bytes(self, token: int) -> bytes | None:
        """The bytes of one token, which may be a part of a character; None where they depend on its neighbours (GPT-1's spaces).

        Raises: TokenizerError for an id outside the vocabulary.
        """
        text = self.decode([token])
        return text.encode() if self.decode([token, token]) == text + text else None

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) over everything that decides text <-> ids; ids are only worth something beside it."""
        return fingerprint_of(self.document())

    def with_special_tokens(self, names: Sequence[str]) -> Tokenizer:
        """The same tokenizer with `names` appended to the vocabulary, in order; a special token it has already keeps its id.

        Raises: TokenizerError for a name that is already an ordinary piece of this vocabulary.
        """
        new = [name for name in dict.fromkeys(names) if name not in self.special_tokens]
        for name in new:
            if not name or name != well_formed(name):
                raise TokenizerError(f"{name!r} cannot be a special token: it needs a spelling of at least one valid character")
            if any("\x7f" < character < "\u0144" for character in name):
                # These characters are letters of the byte-level alphabet, and `tokenizers` decodes them as bytes.
                raise TokenizerError(f"{name!r} cannot be a special token: transformers would decode it wrongly. Spell it in ASCII")
            if self._is_ordinary(name):
                raise TokenizerError(
                    f"{name!r} is an ordinary piece of this vocabulary, so plain text would contain it. "
                    f"Choose a spelling that text does not have, such as '<|{name.strip() or 'name'}|>'"
                )
        if not new:
            return self
        extended = self._extended(new)
        extended.roles, extended.chat_template, extended.closing_token = self.roles, self.chat_template, self.closing_token
        if self.end_of_text_id is not None:
            extended.end_of_text_id = self.end_of_text_id
        return extended

    def save(self, folder: str | Path) -> None:
        """Write the files that `transformers.AutoTokenizer.from_pretrained(folder)` and `load_tokenizer(folder)` open."""
        roles = dict(self.roles)
        if "eos_token" not in roles:
            end = next((name for name, number in self.special_tokens.items() if number == self.end_of_text_id), None)
            begin = BEGIN_OF_TEXT if BEGIN_OF_TEXT in self.special_tokens else end  # GPT-2 has one token for both
            roles |= {role: name for role, name in (("bos_token", begin), ("eos_token", end)) if name}
        write_tokenizer_folder(Path(folder), with_closing_token(self.document(), self.closing_token), roles, self.chat_template)

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """This tokenizer as the content of a Hugging Face `tokenizer.json`."""

    @abstractmethod
    def _encode(self, text: str) -> list[int]: ...

    @abstractmethod
    def _decode(self, ids: list[int]) -> str: ...

    @abstractmethod
    def _is_ordinary(self, name: str) -> bool: ...

    @abstractmethod
    def _extended(self, names: list[str]) -> Tokenizer: ...

    def _no_such_id(self, number: int) -> TokenizerError:
        return TokenizerError(
            f"id {number} is not in the vocabulary of this {self.name} tokenizer (vocab_size {self.vocab_size}). "
            "The ids come from another tokenizer, or from a model with a larger vocabulary"
        )

    def __repr__(self) -> str:
        return f"<{self.name} tokenizer, vocab_size {self.vocab_size}, fingerprint {self.fingerprint[:8]}>"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fertility:
    """How much text a token carries. Compare tokenizers on the same texts only."""

    bytes: int
    """UTF-8 bytes of the texts."""
    characters: int
    """Unicode code points of the texts."""
    words: int
    """Pieces between white space."""
    tokens: int
    """Tokens that the texts become."""
    bytes_per_token: float
    """Compression: more is better."""
    tokens_per_word: float
    """Fertility in the narrow sense: fewer is better."""


def measure_fertility(tokenizer: Tokenizer, texts: Iterable[str]) -> Fertility:
    """Count bytes, characters, words and tokens over `texts`. Raises: DataError when they hold no word at all."""
    num_bytes = characters = words = tokens = 0
    for text in texts:
        num_bytes += len(well_formed(text).encode())
        characters += len(text)
        words += len(text.split())
        tokens += len(tokenizer.encode(text))
    if not words or not tokens:
        raise DataError("there is no text to measure: every text given was empty or white space. Give at least one word")
    return Fertility(
        bytes=num_bytes,
        characters=characters,
        words=words,
        tokens=tokens,
        bytes_per_token=num_bytes / tokens,
        tokens_per_word=tokens / words,
    )


def check_same_tokenizer(found: Tokenizer, expected_fingerprint: str, where: str) -> None:
    """Refuse `found` where ids were made by another tokenizer. Raises: TokenizerError naming both fingerprints."""
    if found.fingerprint != expected_fingerprint:
        raise TokenizerError(
            f"{where}: made with the tokenizer {expected_fingerprint[:8]}…, but this one is {found.fingerprint[:8]}… "
            f"({found.name}, vocab_size {found.vocab_size}). The same ids would mean other text. "
            "Use the tokenizer it was made with, or make it again with this one"
        )


def appended(special_tokens: dict[str, int], names: list[str], vocab_size: int) -> dict[str, int]:
    """`special_tokens` and then `names`, numbered from `vocab_size` on."""
    return {**special_tokens, **{name: vocab_size + i for i, name in enumerate(names)}}


def well_formed(text: str) -> str:
    """`text` with lone surrogates replaced by U+FFFD and surrogate pairs joined, as tiktoken does; usually `text` itself."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
