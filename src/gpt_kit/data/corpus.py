"""A prepared corpus: a folder of token shards for training and validation, with their tokenizer.

    corpus.json          what it is: source, split, counts, shards
    train-00000.tokens   ids (see shards.py); every document begins with the tokenizer's end token, where it has one
    val-00000.tokens
    tokenizer.json …     the tokenizer, as transformers reads it
    MANIFEST.json        SHA-256 of every file

How it is made stands in prepare.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt_kit.config import CorpusConfig
from gpt_kit.data import python_docs
from gpt_kit.data.shards import INFO, TokenArray, is_corpus, open_shard, verify_files
from gpt_kit.data.sources import STDIN, hub_source
from gpt_kit.errors import DataError
from gpt_kit.files import MANIFEST, read_json, sha256_of_file
from gpt_kit.tokenizers import Tokenizer, check_same_tokenizer, load_tokenizer

FORMAT = 1
Progress = Callable[[str, int, int], None]
"""Called with what is being done, the bytes done, and the bytes in all (0: not known)."""
_CHANGES_NOTHING = ("threads", "streaming")
"""Settings that leave the result as it is."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """A prepared corpus, opened: memory maps, not copies."""

    folder: Path
    info: dict[str, Any]
    train: TokenArray
    val: TokenArray
    tokenizer: Tokenizer

    @property
    def fingerprint(self) -> str:
        """SHA-256 over every byte of it, by way of the manifest: two corpora with the same one teach the same."""
        return sha256_of_file(self.folder / MANIFEST)


def refuse_foreign(folder: Path) -> None:
    """Raises: DataError where a corpus in the place of `folder` would replace something that is none."""
    if folder.is_dir() and any(folder.iterdir()) and not is_corpus(folder):
        raise DataError(f"{folder}: this folder is not empty and holds no corpus, so none takes its place. Choose another --out")


def open_corpus(folder: Path, *, verify: bool = True, progress: Progress = lambda *_: None, tokenizer: Tokenizer | None = None) -> Corpus:
    """Open a prepared corpus; with `verify`, every file is compared with its SHA-256 first (see DataConfig for the cost).

    `tokenizer`: the corpus's own, for who has it already; loading it takes half a second.

    Raises: DataError for damaged or foreign shards, TokenizerError for another tokenizer.
    """
    if not is_corpus(folder):
        raise DataError(f"{folder}: no prepared corpus ({INFO} is missing). Make one with: gpt-kit prepare SOURCE --out {folder}")
    info = read_json(folder / INFO)
    found = info.get("format") if isinstance(info, dict) else None
    if found != FORMAT:
        raise DataError(f"{folder}: corpus format {found} is not known; expected {FORMAT}. Prepare the corpus again")
    tokenizer = tokenizer or load_tokenizer(folder)
    try:
        fingerprint, names = info["tokenizer_fingerprint"], {side: list(info[side]["shards"]) for side in ("train", "val")}
    except (KeyError, TypeError):
        raise DataError(f"{folder}: {INFO} does not name the shards and their tokenizer, so it is damaged. Prepare it again") from None
    check_same_tokenizer(tokenizer, fingerprint, str(folder))
    sides = {side: TokenArray([open_shard(folder / shard, tokenizer.fingerprint) for shard in names[side]]) for side in names}
    if verify:
        verify_files(folder, names["train"] + names["val"], progress)
    for side, tokens in sides.items():
        if len(tokens) != (told := info[side].get("tokens")):
            raise DataError(f"{folder}: {side} has {len(tokens):,} tokens, but {INFO} tells of {told}, so it is damaged. Prepare it again")
    return Corpus(folder, info, sides["train"], sides["val"], tokenizer)


def corpus_settings(config: CorpusConfig) -> dict[str, Any]:
    """The settings that made a corpus, as corpus.json keeps them."""
    names = [setting.name for setting in dataclasses.fields(CorpusConfig)]
    return {name: getattr(config, name) for name in names if name not in _CHANGES_NOTHING}


def absolute_source(source: str) -> str:
    """The source as corpus.json keeps it: a path from the root, so that it means the same in every folder."""
    return source if source in (STDIN, python_docs.NAME) or hub_source(source) else str(Path(source).expanduser().absolute())
