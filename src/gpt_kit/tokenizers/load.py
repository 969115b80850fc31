"""A name, a folder or a foreign object -> Tokenizer.

A folder is read in the first form it has: tokenizer.json; vocab.json + merges.txt; the files of OpenAI's GPT-2 and GPT-1
releases. Whatever its form, it becomes a document, and the document the fastest tokenizer that means the same (recognise.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from gpt_kit.errors import CheckpointError, TokenizerError
from gpt_kit.files import read_json
from gpt_kit.locate import base_of_adapter, locate_model
from gpt_kit.tokenizers.base import END_OF_TEXT, Tokenizer
from gpt_kit.tokenizers.document import (
    BYTE_TO_CHARACTER,
    CHAT_TEMPLATE_FILE,
    Document,
    Merge,
    byte_level_document,
    closing_token_of,
    gpt1_document,
)
from gpt_kit.tokenizers.gpt2 import TiktokenTokenizer, gpt2_tokenizer, is_gpt2_encoding
from gpt_kit.tokenizers.recognise import recognised
from gpt_kit.tokenizers.simple import ByteTokenizer

GPT2_NAMES = ("gpt2", "gpt2-small", "gpt2-medium", "gpt2-large", "gpt2-xl")
GPT1_NAMES = ("gpt1", "openai-gpt")
GPT1_ON_THE_HUB = "openai-community/openai-gpt"
VOCAB_AND_MERGES = (
    ("vocab.json", "merges.txt"),
    ("encoder.json", "vocab.bpe"),
    ("encoder_bpe_40000.json", "vocab_40000.bpe"),
)
ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def load_tokenizer(source: str | Path, special_tokens: Sequence[str] = ()) -> Tokenizer:
    """The tokenizer that `source` names: gpt2, byte, gpt1, a folder (tokenizer, model, run, checkpoint), or a hub name.

    A name goes before a folder of that name; write ./gpt2 for the folder. `special_tokens` are appended to the vocabulary in
    order. Raises: TokenizerError when there is no such tokenizer, or its files cannot be read.
    """
    return _load(source).with_special_tokens(special_tokens)


def as_tokenizer(tokenizer: object) -> Tokenizer:
    """A kit tokenizer for a kit tokenizer, a `tiktoken.Encoding` or a `tokenizers.Tokenizer`. Raises: TokenizerError otherwise."""
    if isinstance(tokenizer, Tokenizer):
        return tokenizer
    import tiktoken
    import tokenizers

    if isinstance(tokenizer, tiktoken.Encoding):
        return gpt2_tokenizer(tokenizer._special_tokens) if is_gpt2_encoding(tokenizer) else TiktokenTokenizer(tokenizer)
    if isinstance(tokenizer, tokenizers.Tokenizer):
        return recognised(json.loads(tokenizer.to_str()), {})
    kind = f"{type(tokenizer).__module__}.{type(tokenizer).__qualname__}"
    raise TokenizerError(
        f"a {kind} is not a tokenizer that this kit knows. Give a name or folder to load_tokenizer, "
        "or pass a tiktoken.Encoding or a tokenizers.Tokenizer (in transformers: tokenizer.backend_tokenizer)"
    )


def _load(source: str | Path) -> Tokenizer:
    name = source.split(" (")[0] if isinstance(source, str) else ""
    if name in GPT2_NAMES:
        return gpt2_tokenizer()
    if name == "byte":
        return ByteTokenizer()
    if name in ("bpe", "char"):
        raise TokenizerError(f"a {name} tokenizer is trained: use train_tokenizer({name!r}, documents), save it, load its folder")
    if name in GPT1_NAMES:
        return _load_folder(locate_model(GPT1_ON_THE_HUB))
    from gpt_kit.config.suggest import did_you_mean

    known = [*GPT2_NAMES, *GPT1_NAMES, "byte", "char", "bpe"]
    is_bare_name = name != "" and "/" not in name and not Path(name).exists()
    if is_bare_name and did_you_mean(name, known):
        raise TokenizerError(f"unknown tokenizer {name!r}{did_you_mean(name, known)}. Known: {', '.join(known)}, or a folder")
    try:
        return _load_folder(locate_model(source))
    except CheckpointError as error:
        if is_bare_name:
            raise TokenizerError(f"unknown tokenizer {name!r}. Known: {', '.join(known)}, a folder, a hub name ({error})") from None
        raise


def _load_folder(folder: Path) -> Tokenizer:
    if not _has_tokenizer(folder) and (base := base_of_adapter(folder)):
        return _load_folder(base)
    roles = _roles(folder)
    try:
        document = _read_document(folder, roles)
        tokenizer = recognised(document, roles)
        tokenizer.chat_template, tokenizer.closing_token = _chat_template(folder), closing_token_of(document)
        return tokenizer
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{folder}: these are not tokenizer files, though named so ({error!r}). Copy them again") from None
    except TokenizerError as error:
        raise TokenizerError(f"{folder}: {error}") from None


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file() or any((folder / v).is_file() and (folder / m).is_file() for v, m in VOCAB_AND_MERGES)


def _read_document(folder: Path, roles: Mapping[str, str]) -> Document:
    if (folder / "tokenizer.json").is_file():
        document: Document = read_json(folder / "tokenizer.json")
        return document
    for vocab_file, merges_file in VOCAB_AND_MERGES:
        if (folder / vocab_file).is_file() and (folder / merges_file).is_file():
            return _document_of(read_json(folder / vocab_file), _read_merges(folder / merges_file), folder, roles)
    forms = ", ".join(["tokenizer.json", *(" + ".join(pair) for pair in VOCAB_AND_MERGES)])
    raise TokenizerError(f"no tokenizer is here. Expected one of: {forms}")


def _document_of(vocab: dict[str, int], merges: list[Merge], folder: Path, roles: Mapping[str, str]) -> Document:
    """A vocabulary and its merges do not say how text is cut; a letter for the space byte tells GPT-2's way from GPT-1's."""
    added: dict[str, int] = read_json(folder / "added_tokens.json") if (folder / "added_tokens.json").is_file() else {}
    named = {name: vocab[name] for name in ("<unk>", END_OF_TEXT, *roles.values()) if name in vocab}
    build = byte_level_document if BYTE_TO_CHARACTER[ord(" ")] in vocab else gpt1_document
    return build(vocab, merges, {**named, **added})


def _read_merges(path: Path) -> list[Merge]:
    lines = path.read_text(encoding="utf-8").split("\n")
    pairs = [tuple(line.rstrip("\r").split(" ")) for line in lines if line.strip() and not line.startswith("#version")]
    for pair in pairs:
        if len(pair) != 2:
            raise TokenizerError(f"{path.name}: a merge is two pieces with one space between; got {' '.join(pair)!r}")
    return [(pair[0], pair[1]) for pair in pairs]


def _chat_template(folder: Path) -> str | None:
    """The text of the folder's template; older folders keep it in tokenizer_config.json."""
    if (folder / CHAT_TEMPLATE_FILE).is_file():
        return (folder / CHAT_TEMPLATE_FILE).read_text(encoding="utf-8")
    config = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    template = config.get("chat_template")
    return template if isinstance(template, str) else None


def _roles(folder: Path) -> dict[str, str]:
    """The special tokens that the folder's configuration gives a role: a spelling, or an object that holds one."""
    roles = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        config = read_json(folder / file) if (folder / file).is_file() else {}
        for role in ROLES:
            value = config.get(role)
            spelling = value.get("content") if isinstance(value, dict) else value
            if isinstance(spelling, str) and spelling:
                roles[role] = spelling
    return roles
