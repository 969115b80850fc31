"""Sources: every damage is named by file and line, and a file of any size is read as a stream."""

import gzip
import itertools
import random
import sys
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from source_files import FORMS, PACK, TEXTS, complaint, json_lines, parquet, texts, write

from gpt_kit.data import plain_text, readers
from gpt_kit.data.sources import read_documents
from gpt_kit.errors import DataError, MissingExtraError

# --- damage


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", b"one\ntwo\xe9\n", ":2: byte 7 of the file is 0xe9, which is not UTF-8"),
        ("a.txt", b"one\n<|endoftext|>\ntwo\n\xc3", ":4: byte 22 of the file is 0xc3, which is not UTF-8"),
        ("a.md", b"one\n\nt\0wo", ":3: byte 6 of the file is 0x00, which no text contains. Is this a text file?"),
        ("a.txt", "utf-16".encode("utf-16"), ":1: byte 0 of the file is 0xff"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "b"\n', ":2: not valid JSON (Expecting ',' delimiter"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', ":2: byte 24 of the file is 0xff, which is not UTF-8"),
        ("a.jsonl", b'{"Text": "a", "id": 1}', ":1: there is no key 'text' (did you mean 'Text'?); keys here: 'Text', 'id'."),
        ("a.jsonl", b"{}", ":1: there is no key 'text'; keys here: none."),
        ("a.jsonl", b'\n{"text": null}', ":2: expected a string under 'text', got null"),
        ("a.jsonl", b'{"text": ["a"]}', ":1: expected a string under 'text', got list"),
        ("a.jsonl", b"[1]", ":1: expected an object with the key 'text', got list"),
        ("a.jsonl", b'{"text": "\\ud83d"}', ":1: character 0 is '\\ud83d', half of a surrogate pair"),
        ("a.jsonl", b"[" * 100_000, ":1: not valid JSON"),
        ("a.jsonl", b'{"text": "a", "n": ' + b"1" * 5000 + b"}", ":1: not valid JSON"),
        ("a.json", b'[{"text": "a"},\n{"text": }]', ":2: not valid JSON (Expecting value, column 10)"),
        ("a.json", b'{"text": "a"}\n{"text": "b"}\n', ":2: not valid JSON (Extra data, column 1). If every line is an object"),
        ("a.json", b'[{"text": "a"}, {"id": 1}]', "[1]: there is no key 'text'; keys here: 'id'."),
        ("a.json", b"3", ": expected an object with the key 'text', got int"),
        ("a.json", b"[\n\xff]", ":2: byte 2 of the file is 0xff"),
        ("a.parquet", b"PAR1 and nothing more", ": damaged or not a parquet file"),
        ("a.parquet", parquet({"texts": ["a"]}), ": there is no column 'text' (did you mean 'texts'?); columns here: 'texts'."),
        ("a.parquet", parquet({"text": ["a", None]}), "[1]: expected a string under 'text', got null"),
        ("a.parquet", parquet({"text": [1]}), "[0]: expected a string under 'text', got int"),
        ("a.txt.gz", b"plain text", ": the archive is damaged or incomplete (Not a gzipped file"),
        ("a.txt.zst", b"plain text", ": the archive is damaged or incomplete ("),
    ],
)
def test_damage_is_named_by_file_and_place(tmp_path, name, content, expected):
    assert complaint(write(tmp_path / name, content)).startswith(f"{tmp_path / name}{expected}")


def test_lines_and_bytes_are_counted_inside_the_archive_and_across_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(plain_text, "CHUNK_BYTES", 5)
    content = b"line\n" * 100 + b"<|endoftext|>\n" + b"line\n" * 100 + b"b\xffd"
    assert ":202: byte 1015 of the file is 0xff" in complaint(write(tmp_path / "a.txt.gz", gzip.compress(content)))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet"])
def test_an_archive_that_was_cut_off_is_never_a_shorter_corpus(tmp_path, name, suffix):
    """At every byte: the reader of the package zstandard would end quietly."""
    whole = PACK[suffix](FORMS[name])
    for length in range(1, len(whole), 1 + len(whole) // 100):
        message = complaint(write(tmp_path / (name + suffix), whole[:length]))
        assert message.startswith(f"{tmp_path / (name + suffix)}: the archive is damaged or incomplete")


def test_a_flipped_byte_in_an_archive_is_found(tmp_path):
    packed = bytearray(gzip.compress(FORMS["a.txt"] * 50))
    packed[len(packed) // 2] ^= 0xFF
    assert "a.txt.gz" in complaint(write(tmp_path / "a.txt.gz", bytes(packed)))


def test_damaged_records_can_be_counted_and_passed_over(tmp_path):
    """One line must not stop a tokenization of two days, nor vanish without a count."""
    write(tmp_path / "a.jsonl", b'{"text": "1"}\n{broken\n{"no": 1}\n{"text": "4"}\n')
    write(tmp_path / "b.txt", b"5\n<|endoftext|>\n\xff\n<|endoftext|>\n7\n")
    write(tmp_path / "c.json", b'["8", 9, "10"]')
    write(tmp_path / "d.parquet", parquet({"text": ["11", None, "13"]}))
    damaged: list[DataError] = []
    assert texts(tmp_path, on_damaged=damaged.append) == ["1", "4", "5\n", "7\n", "8", "10", "11", "13"]
    places = [str(error).removeprefix(f"{tmp_path}/").split(": ")[0] for error in damaged]
    assert places == ["a.jsonl:2", "a.jsonl:3", "b.txt:3", "c.json[1]", "d.parquet[1]"]


def test_a_source_without_text_is_refused(tmp_path):
    for name, content in {"a.txt": b"", "b.txt": b" \n<|endoftext|>\n\t\n", "a.jsonl": b'{"text": " "}', "a.json": b"[]"}.items():
        assert complaint(write(tmp_path / name, content)) == f"{tmp_path / name}: holds no text"
    assert complaint(tmp_path) == f"{tmp_path}: holds no text"
    (tmp_path / "empty").mkdir()
    assert "no file in this folder is of a known kind (.txt, .md" in complaint(tmp_path / "empty")


@pytest.mark.parametrize(("package", "name"), [("pyarrow", "a.parquet"), ("zstandard", "a.txt.zst")])
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, package, name):
    monkeypatch.setitem(sys.modules, package, None)
    source = write(tmp_path / name, b"x")
    with pytest.raises(MissingExtraError, match=r"pip install 'gpt-kit\[(parquet|zstd)\]'"):
        list(read_documents(source))


# --- streaming


def test_documents_come_before_the_damage_that_follows_them(tmp_path):
    for name, bad in {"a.jsonl": b"{broken", "a.txt": b"\xff"}.items():
        good = b'{"text": "good"}\n' if name == "a.jsonl" else b"good<|endoftext|>"
        documents = read_documents(write(tmp_path / name, good + bad))
        assert next(documents).text == "good"
        with pytest.raises(DataError):
            next(documents)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl.gz", "a.txt.zst", "groups.parquet", "one-group.parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path, name):
    """20 MB in documents of 10 kB; measured at most 9 MB (parquet pages), where a reader that holds the file needs all 20."""
    bodies = [random.Random(i).randbytes(5000).hex() for i in range(2000)]
    text = "<|endoftext|>\n".join(bodies).encode()
    content = {
        "a.txt": lambda: text,
        "a.txt.zst": lambda: zstandard.compress(text),
        "a.jsonl.gz": lambda: gzip.compress(json_lines(*({"text": body} for body in bodies)), 1),
        "groups.parquet": lambda: parquet({"text": bodies}, row_group_size=100),
        "one-group.parquet": lambda: parquet({"text": bodies}),
    }[name]()
    source = write(tmp_path / name, content)
    next(read_documents(source))  # imports are not counted
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_documents(source)) == 2000
        assert tracemalloc.get_traced_memory()[1] < 13e6
    finally:
        tracemalloc.stop()


def test_a_reading_that_is_given_up_leaves_no_file_open(tmp_path):
    """ResourceWarning is an error here."""
    for suffix in PACK:
        documents = read_documents(write(tmp_path / f"a.jsonl{suffix}", PACK[suffix](FORMS["a.jsonl"])))
        assert [document.text for document in itertools.islice(documents, 1)] == TEXTS[:1]
        del documents


def test_a_json_file_that_would_fill_the_memory_is_refused_with_the_way_round(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(readers, "LARGEST_JSON", 20)
    (tmp_path / "a.json").write_text('["a", "b", "c", "d"]')
    assert [document.text for document in read_documents(str(tmp_path / "a.json"))] == ["a", "b", "c", "d"]
    (tmp_path / "b.json").write_text('["a", "b", "c", "d", "e"]')
    with pytest.raises(DataError, match=r"b.json: is larger than 20 bytes, .* jq -c '.\[\]' .*b.json > .*b.jsonl$"):
        list(read_documents(str(tmp_path / "b.json")))
