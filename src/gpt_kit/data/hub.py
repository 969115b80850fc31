"""Texts of the Hugging Face hub, by name: `owner/name`, `owner/name:config`, or one of the presets.

They come through the package `datasets`, which is imported when it is needed and never runs code from the hub: a dataset that is
only a loading script is read from the copy in parquet that the hub keeps of it. Large ones are streamed, so nothing but the
shards lands on the disk.
"""

from __future__ import annotations

import importlib.util
import io
import itertools
import os
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

from gpt_kit.data.damage import Damage
from gpt_kit.data.pieces import Document, Position
from gpt_kit.data.plain_text import Reading, read_text
from gpt_kit.data.records import Record, record_documents
from gpt_kit.errors import DataError, MissingExtraError

PARQUET_COPY = "refs/convert/parquet"
TIMEOUT_SECONDS = 20
Streaming = Literal["auto", "on", "off"]


@dataclass(frozen=True, kw_only=True, slots=True)
class HubText:
    """Where a text lies, and what a row of it is."""

    repository: str = ""
    """`owner/name` on the hub."""
    config: str | None = None
    split: str = "train"
    column: str = ""
    """The column that holds the text; empty: the setting `text_key`."""
    url: str = ""
    """Instead of a repository: one text file on the web."""
    is_large: bool = True
    """Streamed unless asked otherwise."""
    rows: Literal["documents", "lines"] = "documents"
    """Lines: the rows are one text, whose documents are not marked."""


_CHAR_RNN = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
_VERDICT = "https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/ch02/01_main-chapter-code/the-verdict.txt"
PRESETS = {
    "openwebtext": HubText(repository="Skylion007/openwebtext", column="text"),
    "fineweb-edu-10bt": HubText(repository="HuggingFaceFW/fineweb-edu", config="sample-10BT", column="text"),
    # A row is a sentence, in the order of the books; where a book ends is not marked.
    "bookcorpus": HubText(repository="bookcorpus/bookcorpus", column="text", rows="lines"),
    # A row is one message, without those it answers: a corpus of single messages. Conversations are for fine-tuning.
    "oasst1": HubText(repository="OpenAssistant/oasst1", column="text", is_large=False),
    "tinyshakespeare": HubText(url=_CHAR_RNN),
    "the-verdict": HubText(url=_VERDICT),
}
_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?::([\w.-]+))?")


def hub_text(source: str) -> HubText | None:
    """What `source` names on the hub; None where it cannot be such a name. Nothing is looked up."""
    if source in PRESETS:
        return PRESETS[source]
    match = _NAME.fullmatch(source)
    return HubText(repository=match[1], config=match[2]) if match and ".." not in source else None


def read_hub(source: str, text: HubText, reading: Reading, streaming: Streaming, start: int = 0) -> Iterator[Document | Damage]:
    """The documents of `text` from record `start` on; origins are `source[record]`.

    Raises: DataError in one line where it is not there or cannot be reached; MissingExtraError without the package.
    """
    if text.url:
        yield from read_text(_downloaded(source, text.url), source, reading)
        return
    reading = Reading(text.column or reading.text_key, reading.replace, reading.normalised)
    is_lines, end = text.rows == "lines", Position(offset=start)
    for row in read_hub_rows(source, text, streaming, start):
        found = record_documents(row.value, row.where, reading, row.end._replace(in_document=is_lines))
        yield from (_as_line(item, is_first=row.end.offset == 1) for item in found) if is_lines else found
        end = row.end
    if is_lines and end.offset:
        yield Document("", source, is_first=False, end=end)


def read_hub_rows(source: str, text: HubText, streaming: Streaming = "auto", start: int = 0) -> Iterator[Record]:
    """The rows of a repository from record `start` on. Raises: as `read_hub`."""
    rows = _load(source, text, streaming == "on" or (streaming == "auto" and text.is_large))
    iterator = iter(rows.skip(start) if start else rows)
    for number in itertools.count(start):
        try:
            row = next(iterator, None)
        except Exception as error:
            raise _unreachable(source, error) from None
        if row is None:
            return
        yield Record(row, f"{source}[{number}]", Position(offset=number + 1))


def _as_line(item: Document | Damage, *, is_first: bool) -> Document | Damage:
    if isinstance(item, Damage):
        item.in_document = True
        return item
    return Document(f"{item.text}\n", item.origin, is_first=is_first, is_last=False, end=item.end)


def _load(source: str, text: HubText, streaming: bool) -> Any:
    if importlib.util.find_spec("datasets") is None:
        raise MissingExtraError("datasets", "datasets", "reading datasets of the hub")
    _check_network(source)
    import datasets  # after the check: this takes seconds

    options: dict[str, Any] = {"split": text.split, "streaming": streaming}
    try:
        return datasets.load_dataset(text.repository, text.config, **options)
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise _unreachable(source, error) from None
    except Exception as error:
        raise _unreachable(source, error) from None
    try:
        from huggingface_hub import list_repo_files

        copied = list_repo_files(text.repository, revision=PARQUET_COPY, repo_type="dataset")
        rows = datasets.load_dataset(text.repository, text.config, revision=PARQUET_COPY, **options)
    except Exception as error:
        raise _unreachable(source, error) from None
    if any("/partial-" in file for file in copied):  # what the hub calls the folders where it stopped copying, after some 5 GB
        raise DataError(
            f"{source}: is a loading script, which is never run, and the copy in parquet that the hub keeps of it is only a part. "
            "Download its files and give those"
        )
    return rows


def _check_network(source: str) -> None:
    """Raises: DataError at once, where the library would try for half a minute and tell of every try."""
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0") or urllib.request.getproxies():
        return
    endpoint = urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        socket.create_connection((endpoint.hostname or "", endpoint.port or 443), TIMEOUT_SECONDS).close()
    except OSError as error:
        raise DataError(
            f"{source}: there is no such file or folder, and the hub ({endpoint.hostname}) cannot be reached ({error.strerror or error}). "
            "Check the name and the network; HF_HUB_OFFLINE=1 takes what was downloaded before"
        ) from None


def _downloaded(source: str, url: str) -> BinaryIO:
    """A small file, whole."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
            return io.BytesIO(answer.read())
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise DataError(f"{source}: {url} cannot be reached ({reason}). Check the network; or download it and give the file") from None


def _unreachable(source: str, error: Exception) -> DataError:
    """The library raises whatever its own libraries raise, in several lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return DataError(
        f"{source}: there is no such file or folder, and as a dataset of the hub it cannot be read ({lines[0][:200]}). Check the name, "
        "the configuration (owner/name:config) and the network; or download it and give the local files"
    )
