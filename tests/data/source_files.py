"""One corpus in every form of a file, and small helpers, for the tests of sources."""

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from gpt_kit.data.sources import read_documents
from gpt_kit.errors import DataError

TEXTS = ["First document.\n\nTwo paragraphs.\n", "Zweites: Straße, 漢字, 🙂\n", " third, indented\n"]
PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


def parquet(table: dict, **options) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(table), sink, **options)
    return sink.getvalue()


def json_lines(*records: object) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


RECORDS = [{"id": i, "text": text} for i, text in enumerate(TEXTS)]
FORMS = {
    "a.txt": "<|endoftext|>\n".join(TEXTS).encode(),
    "b.txt": "<|endoftext|>".join(TEXTS).encode(),
    "a.md": ("<|endoftext|>\n".join(TEXTS) + "<|endoftext|>\n").encode(),
    "a.jsonl": json_lines(*RECORDS),
    "blank.jsonl": b"\n" + json_lines(*RECORDS).replace(b"\n", b"\r\n\r\n"),
    "objects.json": json.dumps(RECORDS, indent=1).encode(),
    "strings.json": json.dumps(TEXTS).encode(),
    "data.json": json.dumps({"version": 1, "data": RECORDS}).encode(),
    "a.parquet": parquet({"id": [0, 1, 2], "text": TEXTS}, row_group_size=2),
}


def write(path: Path, content: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


def texts(source, **options) -> list[str]:
    return [document.text for document in read_documents(str(source), **options)]


def complaint(source, **options) -> str:
    with pytest.raises(DataError) as caught:
        list(read_documents(str(source), **options))
    message = str(caught.value)
    assert "\n" not in message
    return message
