"""Byte-level BPE through tiktoken: GPT-2 from the ranks that are shipped beside this file, and trained vocabularies.

A rank is both a token's id and the order in which pairs are merged, so the ranks alone rebuild the published merges: run BPE on
a token's bytes with the lower ranks only, and what is left at the end is the pair that makes it. (The result is byte for byte the
vocab.bpe and encoder.json of the release; a test compares their SHA-256.) Radford et al. 2019, section 2.2.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any

from gpt_kit.errors import TokenizerError
from gpt_kit.tokenizers.base import END_OF_TEXT, Tokenizer, appended, well_formed
from gpt_kit.tokenizers.document import (
    Merge,
    byte_level,
    byte_level_document,
    combined_fingerprint,
    spell_bytes,
)

if TYPE_CHECKING:
    import numpy as np
    import tiktoken
    from numpy.typing import NDArray

# The pattern of the release as tiktoken publishes it for speed, and as it was released. Both cut every text alike.
PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
RELEASED_PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
CONTENT_DIGEST = "f2b9ef200eb47352f0fce59ff239eb184f918ddada394865df9444e0ed4a5f9c"
"""`content_digest` of GPT-2's document, written down so that a fingerprint does not cost rebuilding the merges."""

# What \s means to tiktoken; Python's own \s has four control characters more.
_SPACES = re.compile("[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_PROBE_EVERY = 100_000


class TiktokenTokenizer(Tokenizer):
    """Any `tiktoken.Encoding`."""

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self.name = encoding.name
        self.vocab_size = encoding.max_token_value + 1
        self.special_tokens = dict(encoding._special_tokens)
        self.end_of_text_id = self.special_tokens.get(END_OF_TEXT)
        self.roles = {}
        self._encoding = encoding

    def encode_array(self, text: str) -> NDArray[np.uint32]:
        """As the base class says; tiktoken fills the array outside Python's lock."""
        import numpy

        with _panic_explained(text):
            parts = [self._encoding.encode_to_numpy(part, disallowed_special=()) for part in self._parts(well_formed(text))]
        return parts[0] if len(parts) == 1 else numpy.concatenate(parts)

    def encode_arrays(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        """As the base class says, in one call that does not need Python's lock: the texts are joined by the end token.

        Returning for every short text, a thread would wait for the lock longer than it works. Texts that spell the end token
        themselves are encoded one by one.
        """
        import numpy

        joined = well_formed(END_OF_TEXT.join(texts))
        if END_OF_TEXT not in self.special_tokens or joined.count(END_OF_TEXT) != len(texts) - 1 or len(self._parts(joined)) > 1:
            return super().encode_arrays(texts)
        with _panic_explained(joined):
            ids = self._encoding.encode_to_numpy(joined, allowed_special={END_OF_TEXT}, disallowed_special=())
        borders = numpy.flatnonzero(ids == self.special_tokens[END_OF_TEXT])
        return [ids[start:end] for start, end in zip([0, *(borders + 1)], [*borders, len(ids)], strict=True)]

    def encode_batch(self, texts: Sequence[str], threads: int | None = None) -> list[list[int]]:
        """`encode` for each text; tiktoken works outside Python's lock, so threads help (None: one per core, at most 16)."""
        threads = threads or min(os.cpu_count() or 1, 16)
        if threads == 1 or len(texts) < 2:
            return [self.encode(text) for text in texts]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(self.encode, texts))

    def document(self) -> dict[str, Any]:
        """The document of these ranks; where some token cannot be reached by merging, whole words are looked up first."""
        ranks = self._encoding._mergeable_ranks
        merges = merges_of(ranks)
        cut = {"type": "Split", "pattern": {"Regex": self._encoding._pat_str}, "behavior": "Isolated", "invert": False}
        steps = {"type": "Sequence", "pretokenizers": [cut, byte_level(use_regex=False)]}
        document = byte_level_document(_spelled(ranks), merges, self.special_tokens, steps)
        document["model"]["ignore_merges"] = len(merges) < sum(len(token) > 1 for token in ranks)
        return document

    def _encode(self, text: str) -> list[int]:
        with _panic_explained(text):
            parts = [self._encoding.encode_ordinary(part) for part in self._parts(text)]
        return parts[0] if len(parts) == 1 else [number for part in parts for number in part]

    def _parts(self, text: str) -> list[str]:
        """`text` in parts that can be encoded one by one."""
        return [text]

    def _decode(self, ids: list[int]) -> str:
        try:
            return self._encoding.decode(ids)
        except KeyError:  # a hole in the numbering
            known = {*self._encoding._mergeable_ranks.values(), *self.special_tokens.values()}
            raise self._no_such_id(next(number for number in ids if number not in known)) from None

    def token_bytes(self, token: int) -> bytes:
        """As the base class says."""
        try:
            return self._encoding.decode_single_token_bytes(token)
        except (KeyError, OverflowError):
            raise self._no_such_id(token) from None

    def _is_ordinary(self, name: str) -> bool:
        return name.encode() in self._encoding._mergeable_ranks

    def _extended(self, names: list[str]) -> Tokenizer:
        return type(self)(_encoding(self._encoding, appended(self.special_tokens, names, self.vocab_size)))


class BytePairTokenizer(TiktokenTokenizer):
    """Byte-level BPE with GPT-2's way to cut text, whatever its merges."""

    def document(self) -> dict[str, Any]:
        """The document in the form of the published one."""
        ranks = self._encoding._mergeable_ranks
        return byte_level_document(_spelled(ranks), merges_of(ranks), self.special_tokens)

    def _parts(self, text: str) -> list[str]:
        return _cut_long_spaces(text)


class GPT2Tokenizer(BytePairTokenizer):
    """GPT-2's 50,256 tokens and `<|endoftext|>` (50256)."""

    @cached_property
    def fingerprint(self) -> str:
        """As the base class says, without building the document."""
        return combined_fingerprint(CONTENT_DIGEST, self.special_tokens)

    def document(self) -> dict[str, Any]:
        """The published tokenizer.json."""
        return byte_level_document(*_gpt2_vocab_and_merges(), self.special_tokens)


@contextlib.contextmanager
def _panic_explained(text: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # what a failure inside tiktoken's Rust looks like from here
            raise
        raise TokenizerError(f"tiktoken could not cut this text of {len(text):,} characters ({error}). Split it") from None


def gpt2_tokenizer(special_tokens: Mapping[str, int] | None = None) -> GPT2Tokenizer:
    """GPT-2, with `special_tokens` (spelling -> id) in place of `<|endoftext|>` alone."""
    encoding = _gpt2_encoding()
    return GPT2Tokenizer(encoding if special_tokens is None else _encoding(encoding, dict(special_tokens)))


def byte_pair_tokenizer(ranks: dict[bytes, int], special_tokens: Mapping[str, int]) -> BytePairTokenizer:
    """Byte-level BPE from its ranks, which must hold all 256 bytes."""
    import tiktoken

    return BytePairTokenizer(tiktoken.Encoding("bpe", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=dict(special_tokens)))


def is_gpt2_encoding(encoding: tiktoken.Encoding) -> bool:
    """Whether an encoding has GPT-2's ranks and cuts text as GPT-2 does."""
    return encoding._pat_str in (PATTERN, RELEASED_PATTERN) and encoding._mergeable_ranks == gpt2_ranks()


@cache
def gpt2_ranks() -> dict[bytes, int]:
    """Token -> rank, from the shipped file."""
    lines = resources.files("gpt_kit.tokenizers").joinpath("gpt2.tiktoken").read_bytes().splitlines()
    return {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}


def merges_of(ranks: Mapping[bytes, int]) -> list[Merge]:
    """The merges in order of rank. A token that no merges lead to is left out."""
    pairs = (_parents(token, rank, ranks) for token, rank in sorted(ranks.items(), key=lambda item: item[1]) if len(token) > 1)
    return [(spell_bytes(pair[0]), spell_bytes(pair[1])) for pair in pairs if len(pair) == 2]


def _parents(token: bytes, rank: int, ranks: Mapping[bytes, int]) -> list[bytes]:
    """What BPE makes of `token` with lower ranks only: its two parents, or more parts where it cannot be reached."""
    parts = [token[i : i + 1] for i in range(len(token))]
    pairs = [ranks.get(token[i : i + 2], rank) for i in range(len(token) - 1)]  # ranks of neighbours together
    while len(parts) > 2 and (lowest := min(pairs)) < rank:
        i = pairs.index(lowest)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
        pairs[max(0, i - 1) : i + 2] = [ranks.get(parts[j] + parts[j + 1], rank) for j in (i - 1, i) if 0 <= j < len(parts) - 1]
    return parts


def _cut_long_spaces(text: str) -> list[str]:
    r"""Cut `text` inside very long runs of white space, at places where GPT-2's pattern cuts anyway.

    Looking ahead from a run of about a million spaces overflows the stack of tiktoken's pattern engine. Before a word the pattern
    takes all of a run but its last character; cut there, the run ends its piece, which needs no looking ahead. A run longer than
    the distance between two probes contains one, so ordinary text costs one look per 100,000 characters.
    """
    cuts = [0]
    for probe in range(_PROBE_EVERY, len(text), _PROBE_EVERY):
        run = _SPACES.match(text, max(probe, cuts[-1]))
        if run and run.end() < len(text) and run.end() - run.start() > 1:
            cuts.append(run.end() - 1)
    return [text[start:end] for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True)] if len(cuts) > 1 else [text]


def _spelled(ranks: Mapping[bytes, int]) -> dict[str, int]:
    return {spell_bytes(token): rank for token, rank in sorted(ranks.items(), key=lambda item: item[1])}


@cache
def _gpt2_vocab_and_merges() -> tuple[dict[str, int], list[Merge]]:
    return _spelled(gpt2_ranks()), merges_of(gpt2_ranks())


@cache
def _gpt2_encoding() -> tiktoken.Encoding:
    import tiktoken

    ranks = gpt2_ranks()
    return tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: len(ranks)})


def _encoding(encoding: tiktoken.Encoding, special_tokens: dict[str, int]) -> tiktoken.Encoding:
    import tiktoken

    return tiktoken.Encoding(
        encoding.name, pat_str=encoding._pat_str, mergeable_ranks=encoding._mergeable_ranks, special_tokens=special_tokens
    )
