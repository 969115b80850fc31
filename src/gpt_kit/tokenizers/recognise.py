"""tokenizer.json -> the fastest tokenizer that means the same.

Each candidate below is a guess from the document's outline. It is taken only if its own document has the same fingerprint, so a
guess can be wrong but not do harm; whatever fits none of them runs through the `tokenizers` library.

For byte-level BPE that check is a proof. tiktoken merges any two neighbours whose bytes together are a token, `tokenizers` only
the pair on its list, and they could part where a token can be split in two ways. But a pair only ever stands beside a boundary
that no merge of lower rank has crossed, so between its boundaries the text has developed exactly as the token's bytes do alone.
If every listed pair is what BPE makes of those bytes (merges_of), the two always meet the same pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpt_kit.tokenizers.base import Tokenizer
from gpt_kit.tokenizers.document import (
    ANY_CHARACTER,
    BYTE_OF_CHARACTER,
    Document,
    combined_fingerprint,
    content_digest,
    special_tokens_of,
)
from gpt_kit.tokenizers.gpt2 import CONTENT_DIGEST, byte_pair_tokenizer, gpt2_tokenizer
from gpt_kit.tokenizers.huggingface import HuggingFaceTokenizer
from gpt_kit.tokenizers.simple import ByteTokenizer, CharacterTokenizer


def recognised(document: Document, roles: Mapping[str, str]) -> Tokenizer:
    """A tokenizer with exactly this document. Raises: TokenizerError when `tokenizers` cannot read it."""
    general = HuggingFaceTokenizer(document, roles)
    written = general.document()
    content = content_digest(written)
    fingerprint = combined_fingerprint(content, special_tokens_of(written))
    for candidate in _candidates(written, content):
        if candidate.fingerprint == fingerprint:
            candidate.roles = general.roles
            candidate.end_of_text_id = general.end_of_text_id
            return candidate
    return general


def _candidates(document: Document, content: str) -> Iterator[Tokenizer]:
    special = special_tokens_of(document)
    cut: dict[str, Any] = document["pre_tokenizer"] or {}
    model = document["model"]
    if model["type"] == "WordLevel" and cut.get("pattern") == {"Regex": ANY_CHARACTER}:
        by_id = sorted(model["vocab"], key=lambda token: int(model["vocab"][token]))
        yield CharacterTokenizer([token for token in by_id if token not in special], special)
    if model["type"] == "BPE" and cut.get("type") == "ByteLevel" and not cut.get("use_regex"):
        yield ByteTokenizer(special)
    if model["type"] == "BPE" and cut.get("type") == "ByteLevel" and cut.get("use_regex"):
        if content == CONTENT_DIGEST:
            yield gpt2_tokenizer(special)
        ranks = _ranks(model["vocab"], special)
        if len(set(ranks.values()).union(special.values())) == len(ranks) + len(special):
            yield byte_pair_tokenizer(ranks, special)


def _ranks(vocab: Mapping[str, int], special_tokens: Mapping[str, int]) -> dict[bytes, int]:
    """Token -> id for a whole byte-level vocabulary; empty when some token is not spelled in its alphabet, or a byte is missing."""
    try:
        ranks = {bytes([BYTE_OF_CHARACTER[c] for c in token]): number for token, number in vocab.items() if token not in special_tokens}
    except KeyError:
        return {}
    return ranks if all(bytes([byte]) in ranks for byte in range(256)) else {}
