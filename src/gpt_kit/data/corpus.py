"""A prepared corpus: raw text -> a folder of token shards for training and validation, with their tokenizer.

    corpus.json          what it is: source, split, counts, shards
    train-00000.tokens   ids (see shards.py); every document begins with the tokenizer's end token, where it has one
    val-00000.tokens
    tokenizer.json …     the tokenizer, as transformers reads it
    MANIFEST.json        SHA-256 of every file

The source is read twice. The first reading only counts: bytes by document hash decide which documents are set aside, so that the
same text is set aside again tomorrow, and equal documents never stand on both sides. The second reading encodes; between the two,
a tokenizer that has to be trained reads the source once more.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpt_kit.config import CorpusConfig
from gpt_kit.data import python_docs
from gpt_kit.data.shards import ShardWriter, TokenArray, open_shard
from gpt_kit.data.sources import STDIN, Document, read_documents
from gpt_kit.errors import DataError
from gpt_kit.files import MANIFEST, atomic_folder, read_json, sha256_of_file, write_json
from gpt_kit.tokenizers import Tokenizer, check_same_tokenizer, load_tokenizer, train_tokenizer

FORMAT = 1
FEW_DOCUMENTS = 20  # below this, whole documents are too coarse to hit val_fraction
BATCH_BYTES = 1_000_000  # text encoded at once
BUCKETS = 2**16
Progress = Callable[[str, int, int], None]
"""Called with what is being done, the bytes done, and the bytes in all (0: not known)."""


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


@dataclass(frozen=True, slots=True)
class _Survey:
    """What the first reading found."""

    documents: int
    bytes: int
    characters: int
    duplicates: int
    bytes_by_bucket: np.ndarray[Any, np.dtype[np.int64]]


def is_corpus(folder: Path) -> bool:
    """Whether `folder` holds a prepared corpus."""
    return (folder / "corpus.json").is_file()


def prepare_corpus(source: str, folder: Path, config: CorpusConfig, progress: Progress = lambda *_: None) -> Corpus:
    """Write `source` (see sources.py) as a corpus into `folder`, whole or not at all, and open it.

    Raises: DataError for a source that is missing, empty or damaged; TokenizerError for a tokenizer that does not fit.
    """
    documents = _document_reader(source, config.text_key)
    survey = _survey(documents(), config.split_seed, progress)
    is_val = _choose_split(survey, config)
    tokenizer = _make_tokenizer(config, lambda: _sides(documents(), is_val, survey, config), progress)
    with atomic_folder(folder) as temporary:
        writers = {name: ShardWriter(temporary, name, tokenizer.vocab_size, tokenizer.fingerprint) for name in ("train", "val")}
        with writers["train"], writers["val"]:
            counts, leaks = _write_shards(writers, tokenizer, _sides(documents(), is_val, survey, config), survey.bytes, progress)
        tokenizer.save(temporary)
        info = {
            "format": FORMAT,
            "source": absolute_source(source),
            "settings": corpus_settings(config),
            "tokenizer": tokenizer.name,
            "tokenizer_fingerprint": tokenizer.fingerprint,
            "vocab_size": tokenizer.vocab_size,
            "split": "contiguous" if is_val is None else "document",
            "duplicates": survey.duplicates,
            "val_documents_seen_in_training": leaks,
        }
        info |= {name: {"tokens": writers[name].num_tokens, **counts[name], "shards": writers[name].shards} for name in writers}
        write_json(temporary / "corpus.json", info)
    return open_corpus(folder)


def open_corpus(folder: Path) -> Corpus:
    """Open a prepared corpus. Raises: DataError for damaged or foreign shards, TokenizerError for another tokenizer."""
    if not is_corpus(folder):
        raise DataError(f"{folder}: no prepared corpus (corpus.json is missing). Make one with: gpt-kit prepare SOURCE --out {folder}")
    info = read_json(folder / "corpus.json")
    if info.get("format") != FORMAT:
        raise DataError(f"{folder}: corpus format {info.get('format')} is not known; expected {FORMAT}. Prepare the corpus again")
    tokenizer = load_tokenizer(folder)
    check_same_tokenizer(tokenizer, info["tokenizer_fingerprint"], str(folder))
    sides = {
        name: TokenArray([open_shard(folder / shard, tokenizer.fingerprint) for shard in info[name]["shards"]]) for name in ("train", "val")
    }
    return Corpus(folder, info, sides["train"], sides["val"], tokenizer)


def corpus_settings(config: CorpusConfig) -> dict[str, Any]:
    """The settings that made a corpus, as corpus.json keeps them."""
    return {setting.name: getattr(config, setting.name) for setting in dataclasses.fields(CorpusConfig)}


def absolute_source(source: str) -> str:
    """The source as corpus.json keeps it: a path from the root, so that it means the same in every folder."""
    return source if source in (STDIN, python_docs.NAME) else str(Path(source).expanduser().absolute())


def _write_shards(
    writers: dict[str, ShardWriter], tokenizer: Tokenizer, sided: Iterable[tuple[str, str]], all_bytes: int, progress: Progress
) -> tuple[dict[str, dict[str, int]], int]:
    """Encode every document. Gives what was written, by side, and how many documents of val occur in train too."""
    counts = {name: {"documents": 0, "bytes": 0, "characters": 0} for name in writers}
    digests: dict[str, Counter[bytes]] = {name: Counter() for name in writers}
    opening = [] if tokenizer.end_of_text_id is None else [tokenizer.end_of_text_id]
    for name, texts in _batches(sided):
        for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
            writers[name].write([*opening, *ids])
            digests[name][_digest(text)] += 1
            counts[name]["documents"] += 1
            counts[name]["bytes"] += len(text.encode("utf-8", "surrogatepass"))
            counts[name]["characters"] += len(text)
        progress("encoding", sum(count["bytes"] for count in counts.values()), all_bytes)
    return counts, sum(count for digest, count in digests["val"].items() if digest in digests["train"])


def _document_reader(source: str, text_key: str) -> Callable[[], Iterable[Document]]:
    # A stream can be read only once, and the embedded corpus costs seconds to collect.
    if source in (STDIN, python_docs.NAME) or Path(source).is_fifo():
        kept = list(read_documents(source, text_key=text_key))
        return lambda: kept
    return lambda: read_documents(source, text_key=text_key)


def _digest(text: str, seed: int = 0) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=str(seed).encode()).digest()


def _bucket(digest: bytes) -> int:
    return int.from_bytes(digest[:2], "big")


def _survey(documents: Iterable[Document], seed: int, progress: Progress) -> _Survey:
    by_bucket = np.zeros(BUCKETS, dtype=np.int64)
    count = size = characters = duplicates = 0
    seen: set[bytes] = set()
    for document in documents:
        digest = _digest(document.text, seed)
        length = len(document.text.encode("utf-8", "surrogatepass"))
        by_bucket[_bucket(digest)] += length
        count, size, characters = count + 1, size + length, characters + len(document.text)
        duplicates += digest in seen
        seen.add(digest)
        if count % 1000 == 0:
            progress("counting", size, 0)
    return _Survey(count, size, characters, duplicates, by_bucket)


def _choose_split(survey: _Survey, config: CorpusConfig) -> Callable[[str], bool] | None:
    """A test for 'set this document aside', or None for a contiguous split.

    Documents whose hash falls below a threshold are set aside; the threshold is the one that gets closest to val_fraction.
    """
    by_document = config.split == "document" or (config.split == "auto" and survey.documents >= FEW_DOCUMENTS)
    if not by_document:
        return None
    filled = np.flatnonzero(survey.bytes_by_bucket)
    if config.val_fraction > 0 and len(filled) < 2:
        raise DataError("the source is one document (or copies of one), so none can be set aside whole. Set split to contiguous")
    ends = np.cumsum(survey.bytes_by_bucket[filled])
    number = int(np.abs(ends - config.val_fraction * survey.bytes).argmin()) + 1
    number = 0 if config.val_fraction == 0 else min(number, len(filled) - 1)
    threshold = int(filled[number - 1]) + 1 if number else 0
    return lambda text: _bucket(_digest(text, config.split_seed)) < threshold


def _sides(
    documents: Iterable[Document], is_val: Callable[[str], bool] | None, survey: _Survey, config: CorpusConfig
) -> Iterator[tuple[str, str]]:
    """(side, text) of every document; a contiguous split cuts the one document that the border falls into."""
    if is_val is not None:
        for document in documents:
            yield "val" if is_val(document.text) else "train", document.text
        return
    border = int(survey.characters * (1 - config.val_fraction))
    for document in documents:
        for side, part in (("train", document.text[: max(0, border)]), ("val", document.text[max(0, border) :])):
            if part:
                yield side, part
        border -= len(document.text)


def _batches(sided: Iterable[tuple[str, str]]) -> Iterator[tuple[str, list[str]]]:
    """Texts of one side together, about BATCH_BYTES at once."""
    waiting: dict[str, list[str]] = {"train": [], "val": []}
    sizes = dict.fromkeys(waiting, 0)
    for side, text in sided:
        waiting[side].append(text)
        sizes[side] += len(text)
        if sizes[side] >= BATCH_BYTES:
            yield side, waiting[side]
            waiting[side], sizes[side] = [], 0
    for side, texts in waiting.items():
        if texts:
            yield side, texts


def _make_tokenizer(config: CorpusConfig, sides: Callable[[], Iterable[tuple[str, str]]], progress: Progress) -> Tokenizer:
    if config.tokenizer == "char":  # every character must have an id, also those that only validation text uses
        progress("collecting characters", 0, 0)
        return train_tokenizer("char", (text for _, text in sides()))
    if config.tokenizer == "bpe":
        progress("training the tokenizer", 0, 0)
        return train_tokenizer("bpe", (text for side, text in sides() if side == "train"), vocab_size=config.vocab_size)
    return load_tokenizer(config.tokenizer)
