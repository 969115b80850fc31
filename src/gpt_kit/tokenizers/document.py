"""tokenizer.json: the one written form of every tokenizer here.

A document is the parsed content of a Hugging Face `tokenizer.json`: normalizer, pre_tokenizer, model (vocabulary and merges),
decoder, added_tokens. The fingerprint is a SHA-256 over its canonical form: only what decides text <-> ids, sorted keys, special
tokens apart from the content. Settings that are absent, null, false or empty count as equal, so that a field added by a later
release of `tokenizers` leaves old fingerprints alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt_kit.files import write_atomically, write_json

Document = dict[str, Any]
Merge = tuple[str, str]

# GPT-2 writes bytes as printable characters: those that print stand for themselves, the others for U+0100 and on, in order.
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
BYTE_TO_CHARACTER = {**{b: chr(b) for b in _PRINTABLE}, **{b: chr(0x100 + i) for i, b in enumerate(_OTHERS)}}
BYTE_OF_CHARACTER = {character: byte for byte, character in BYTE_TO_CHARACTER.items()}
ANY_CHARACTER = r"[\s\S]"
CHAT_TEMPLATE_FILE = "chat_template.jinja"


def spell_bytes(token: bytes) -> str:
    """A byte string in GPT-2's printable alphabet: b" a" -> "Ġa"."""
    return token.decode("latin-1").translate(BYTE_TO_CHARACTER)


def byte_level_document(
    vocab: Mapping[str, int], merges: Sequence[Merge], special_tokens: Mapping[str, int], pre_tokenizer: Any = None
) -> Document:
    """Byte-level BPE (GPT-2). `vocab` is in the printable alphabet; `pre_tokenizer` replaces GPT-2's own way to cut text."""
    model = {"type": "BPE", "vocab": {**vocab, **special_tokens}, "merges": [list(merge) for merge in merges]}
    return _document(model, special_tokens, pre_tokenizer or byte_level(use_regex=True), byte_level(use_regex=True))


def gpt1_document(vocab: Mapping[str, int], merges: Sequence[Merge], special_tokens: Mapping[str, int]) -> Document:
    """GPT-1: lower-cased and cleaned as BERT does, cut at spaces and punctuation, BPE with `</w>` at the end of a word."""
    model = {
        "type": "BPE",
        "unk_token": "<unk>",
        "end_of_word_suffix": "</w>",
        "vocab": dict(vocab),
        "merges": [list(merge) for merge in merges],
    }
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True}
    document = _document(model, special_tokens, {"type": "BertPreTokenizer"}, {"type": "BPEDecoder", "suffix": "</w>"})
    return {**document, "normalizer": normalizer}


def character_document(characters: Sequence[str], special_tokens: Mapping[str, int]) -> Document:
    """One id per character. There is no unknown token, so `tokenizers` refuses an unknown character as we do."""
    vocab = {character: i for i, character in enumerate(characters)}
    model = {"type": "WordLevel", "vocab": {**vocab, **special_tokens}, "unk_token": ""}
    cut = {"type": "Split", "pattern": {"Regex": ANY_CHARACTER}, "behavior": "Isolated", "invert": False}
    return _document(model, special_tokens, cut, {"type": "Fuse"})


def byte_level(*, use_regex: bool) -> Document:
    """The byte-level pre-tokenizer or decoder; `use_regex` cuts text into GPT-2's words first."""
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def special_tokens_of(document: Document) -> dict[str, int]:
    """Spelling -> id of the special tokens, by id."""
    tokens = sorted(document["added_tokens"], key=lambda token: int(token["id"]))
    return {token["content"]: token["id"] for token in tokens if token["special"]}


def content_digest(document: Document) -> str:
    """SHA-256 of everything but the special tokens: what tells GPT-2's vocabulary from any other."""
    model = dict(document["model"])
    vocab, merges = model.pop("vocab"), model.pop("merges", [])
    if isinstance(vocab, dict):
        special = special_tokens_of(document)
        vocab = {token: number for token, number in vocab.items() if token not in special}
    decoder = document.get("decoder")
    if decoder and decoder["type"] == "ByteLevel":
        decoder = {"type": "ByteLevel"}  # its settings have no effect on decoding, and differ between published files
    parts = {name: document.get(name) for name in ("normalizer", "pre_tokenizer")}
    words = [token for token in document["added_tokens"] if not token["special"]]
    rules = _essential({**parts, "decoder": decoder, "model": model, "words": words})
    return _sha256({"rules": rules, "vocab": vocab, "merges": merges})


def fingerprint_of(document: Document) -> str:
    """SHA-256 over content and special tokens."""
    return combined_fingerprint(content_digest(document), special_tokens_of(document))


def combined_fingerprint(content: str, special_tokens: Mapping[str, int]) -> str:
    """The fingerprint of a content whose digest is known."""
    return _sha256({"content": content, "special_tokens": dict(special_tokens)})


def with_closing_token(document: Document, token: str | None) -> Document:
    """The same document, by which `transformers` and `tokenizers` put a special token behind every text, or (None) no longer do."""
    if token is None:
        return document if closing_token_of(document) is None else {**document, "post_processor": None}
    closing = {"SpecialToken": {"id": token, "type_id": 0}}
    number = special_tokens_of(document)[token]
    template = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, closing],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}, closing],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}},
    }
    return {**document, "post_processor": template}


def closing_token_of(document: Document) -> str | None:
    """The special token that a document puts behind every text, and nothing before it; None where it does anything else."""
    template = document.get("post_processor") or {}
    if template.get("type") != "TemplateProcessing" or len(template["single"]) != 2 or "SpecialToken" not in template["single"][1]:
        return None
    token = template["single"][1]["SpecialToken"]["id"]
    return token if "Sequence" in template["single"][0] and token in special_tokens_of(document) else None


def write_tokenizer_folder(folder: Path, document: Document, roles: Mapping[str, str], chat_template: str | None = None) -> None:
    """Write tokenizer.json, tokenizer_config.json, the chat template, and vocab.json + merges.txt where older tools read the same there."""
    write_atomically(folder / "tokenizer.json", json.dumps(document, ensure_ascii=False) + "\n")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        # Without this line transformers 4 hands token_type_ids to GPT-2, which adds an embedding for them.
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **roles,
    }
    write_json(folder / "tokenizer_config.json", config)
    for name in ("special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", CHAT_TEMPLATE_FILE):
        (folder / name).unlink(missing_ok=True)  # left by another tokenizer, they would contradict this one
    if chat_template is not None:
        write_atomically(folder / CHAT_TEMPLATE_FILE, chat_template)
    model = document["model"]
    if model["type"] == "BPE" and (_is_plain_byte_level(document) or model.get("end_of_word_suffix") == "</w>"):
        by_id = dict(sorted(model["vocab"].items(), key=lambda item: int(item[1])))
        write_atomically(folder / "vocab.json", json.dumps(by_id))
        write_atomically(folder / "merges.txt", merges_text(model["merges"]))


def merges_text(merges: Iterable[Sequence[str]]) -> str:
    """merges.txt as GPT-2 was published with it."""
    return "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges)


def _is_plain_byte_level(document: Document) -> bool:
    cut = document.get("pre_tokenizer") or {}
    return cut.get("type") == "ByteLevel" and not cut.get("add_prefix_space") and not document.get("normalizer")


def _document(model: Document, special_tokens: Mapping[str, int], pre_tokenizer: Any, decoder: Any) -> Document:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": number, "content": name, **flags} for name, number in sorted(special_tokens.items(), key=lambda item: item[1])]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": decoder,
        "model": model,
    }


def _essential(value: Any) -> Any:
    """`value` without settings that say nothing. (`trim_offsets` is about positions in the text, not about ids.)"""
    if isinstance(value, dict):
        kept = {key: _essential(item) for key, item in value.items() if key != "trim_offsets"}
        return {key: item for key, item in kept.items() if item is not None and item is not False and item != "" and item != []}
    if isinstance(value, list):
        return [_essential(item) for item in value]
    return value


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
