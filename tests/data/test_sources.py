"""Sources: every form of one corpus reads the same, and every damage is named by file and line."""

import gzip
import io
import itertools
import json
import random
import sys
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from gpt_kit.data import plain_text, readers
from gpt_kit.data.sources import PRESETS, Document, Source, hub_source, list_files, read_documents
from gpt_kit.errors import DataError, MissingExtraError

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


# --- every form of a file


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("name", FORMS)
def test_every_form_holds_the_same_documents(tmp_path, name, suffix):
    assert texts(write(tmp_path / (name + suffix), PACK[suffix](FORMS[name]))) == TEXTS


@pytest.mark.parametrize("name", ["A.TXT", "A.JSONL.GZ"])
def test_suffixes_in_capitals_are_known(tmp_path, name):
    content = gzip.compress(FORMS["a.jsonl"]) if name.endswith("GZ") else FORMS["a.txt"]
    write(tmp_path / name, content)
    assert texts(tmp_path) == texts(tmp_path / name) == TEXTS


def test_origins_lead_back_to_the_place(tmp_path):
    def origins(name: str, content: bytes) -> list[str]:
        return [d.origin.removeprefix(f"{tmp_path}/") for d in read_documents(write(tmp_path / name, content))]

    assert origins("whole.txt", b"a\nb\n") == ["whole.txt"]
    assert origins("parts.txt", b"a\nb\n<|endoftext|>\nc\n<|endoftext|>d") == ["parts.txt:1", "parts.txt:4", "parts.txt:5"]
    assert origins("books/a.jsonl", b"\n" + json_lines({"text": "a"}, {"text": " "}, {"text": "c"})) == [
        "books/a.jsonl:2",
        "books/a.jsonl:4",
    ]
    assert origins("one.json", b'{"text": "a"}') == ["one.json"]
    assert origins("a.json", b'["a", "b"]') == ["a.json[0]", "a.json[1]"]
    assert origins("a.parquet", parquet({"text": ["a", "", "c"]})) == ["a.parquet[0]", "a.parquet[2]"]


def test_a_text_without_separator_is_one_document_with_plain_line_ends(tmp_path):
    content = "\ufeff  Title\r\n\r\nold\rmac \ufeff\r\n".encode()
    assert texts(write(tmp_path / "a.txt", content)) == ["  Title\n\nold\rmac \ufeff\n"], "only the mark at the start goes"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a<|endoftext|>b", ["a", "b"]),
        ("a\n<|endoftext|>\n\nb", ["a\n", "\nb"]),  # only the separator's own line break
        ("a\r\n<|endoftext|>\r\nb\r\n", ["a\n", "b\n"]),
        ("a<|endoftext|>\nb", ["a", "\nb"]),  # not alone on its line: the line break is text
        ("<|endoftext|>\n<|endoftext|>\na<|endoftext|><|endoftext|>\n", ["a"]),
        ("a<|endoftext|", ["a<|endoftext|"]),
    ],
)
def test_separators_part_documents_and_never_reach_them(tmp_path, content, expected):
    assert texts(write(tmp_path / "a.txt", content.encode())) == expected


@pytest.mark.parametrize("chunk", range(1, 40))
def test_where_the_file_is_cut_into_chunks_does_not_matter(tmp_path, monkeypatch, chunk):
    """Separators, characters of several bytes and line breaks fall across every border once."""
    content = "é漢\r\n<|endoftext|>\r\n<<|endoftext|🙂<|endoftext|>end\n".encode()
    monkeypatch.setattr(plain_text, "CHUNK_BYTES", chunk)
    found = list(read_documents(write(tmp_path / "a.txt", content)))
    assert [d.text for d in found] == ["é漢\n", "<<|endoftext|🙂", "end\n"]
    assert [d.origin.rpartition(":")[2] for d in found] == ["1", "3", "3"]


def test_the_separator_inside_a_record_is_content(tmp_path):
    """Only text files have no other way to part documents; a record's text is kept as its author wrote it."""
    assert texts(write(tmp_path / "a.jsonl", json_lines({"text": "a<|endoftext|>\r\nb"}))) == ["a<|endoftext|>\r\nb"]


def test_another_key_can_hold_the_text(tmp_path):
    for name, content in {
        "a.jsonl": json_lines({"text": "no", "story": "yes"}),
        "a.json": b'[{"story": "yes"}]',
        "a.parquet": parquet({"text": ["no"], "story": ["yes"]}),
    }.items():
        assert texts(write(tmp_path / name, content), text_key="story") == ["yes"]


def test_dictionary_and_large_string_columns_are_text(tmp_path):
    table = pa.table({"text": pa.array(TEXTS, pa.large_string()), "kind": pa.array(["x", "y", "x"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet") == TEXTS
    assert texts(tmp_path / "a.parquet", text_key="kind") == ["x", "y", "x"]


def test_an_archive_of_several_members_is_read_to_its_end(tmp_path):
    """`cat a.gz b.gz` and zstd's parallel mode write such files; a reader that stops at the first member loses the rest."""
    halves = [b"first half, ", b"second half"]
    for suffix, pack in list(PACK.items())[1:]:
        assert texts(write(tmp_path / f"a.txt{suffix}", b"".join(map(pack, halves)))) == ["first half, second half"]


def test_a_file_of_unknown_kind_is_text_if_it_decodes(tmp_path):
    assert texts(write(tmp_path / "notes.rst", b"text")) == ["text"]
    assert texts(write(tmp_path / "README", b"text")) == ["text"]
    assert texts(write(tmp_path / "README.gz", gzip.compress(b"text"))) == ["text"]
    assert "Is this a text file?" in complaint(write(tmp_path / "a.png", b"\x89PNG\r\n\x1a\n\0\0"))


# --- folders, globs, names


def test_a_folder_is_all_its_known_files_sorted_without_hidden_ones(tmp_path):
    for name in ("b.txt", "a/z.md", "a/c.jsonl", "a.txt", ".hidden.txt", ".git/x.txt", "a/.incomplete-1/x.txt", "image.png"):
        write(tmp_path / name, json_lines({"text": name}) if name.endswith("jsonl") else name.encode())
    write(tmp_path / "a/d.txt.gz", gzip.compress(b"a/d.txt.gz"))
    assert texts(tmp_path) == ["a/c.jsonl", "a/d.txt.gz", "a/z.md", "a.txt", "b.txt"]
    assert list_files(str(tmp_path)) == sorted(tmp_path / name for name in texts(tmp_path))


def test_a_glob_finds_files_below(tmp_path, monkeypatch):
    for name in ("x/b.txt", "a.txt", "x/y/c.txt", "x/.hidden.txt", "x/d.md", "e.log"):
        write(tmp_path / name, name.encode())
    assert texts(tmp_path / "**/*.txt") == ["a.txt", "x/b.txt", "x/y/c.txt"]
    assert texts(tmp_path / "x/?.*") == ["x/b.txt", "x/d.md"]
    assert texts(tmp_path / "*.log") == ["e.log"], "a pattern names its files, so they need no known suffix"
    monkeypatch.chdir(tmp_path)
    assert texts("x/**") == ["x/b.txt", "x/d.md", "x/y/c.txt"], "folders that match are no files"
    assert "no file matches" in complaint("*.parquet")


def test_what_is_not_read_is_counted_by_its_kind(tmp_path):
    """Files of unknown kinds, links and corpora; not hidden ones, and nothing where all is read."""
    for name in ("a.txt", "b.csv", "x/c.CSV", "x/d.html", "x/README", "e.csv.gz", ".hidden.csv", ".git/config"):
        write(tmp_path / "texts" / name, b"text")
    assert Source(str(tmp_path / "texts")).skipped == ["skipped 5 files of kinds that are not read: .csv 3, .html 1, without suffix 1"]
    assert Source(str(tmp_path / "texts" / "*.txt")).skipped == Source(str(tmp_path / "texts" / "**")).skipped == []
    assert Source(str(tmp_path / "texts" / "*")).skipped == ["skipped 1 folder by that pattern; ** reads below them"]
    write(tmp_path / "all" / "a.txt", b"text")
    assert Source(str(tmp_path / "all")).skipped == Source("python-docs").skipped == []
    (tmp_path / "all" / "link").symlink_to(tmp_path / "texts")
    for name in ("corpus.json", "MANIFEST.json"):
        write(tmp_path / "all" / "corpus" / name, b"{}")
    assert Source(str(tmp_path / "all")).skipped == ["skipped 2 folders: link to a folder 1, prepared corpus 1"]
    for number in range(10):
        write(tmp_path / "kinds" / f"a.{number}", b"")
    assert "known kind (.txt" in complaint(tmp_path / "kinds")
    assert complaint(tmp_path / "kinds").endswith(
        "skipped 10 files of kinds that are not read: .0 1, .1 1, .2 1, .3 1, .4 1, .5 1, .6 1, .7 1, others 2"
    )


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    write(tmp_path / "a1.txt", b"other")
    assert texts(write(tmp_path / "a[1].txt", b"this")) == ["this"]


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.txt", b"text")
    assert texts("~/a.txt") == texts("~/*.txt") == ["text"]


def test_a_missing_path_is_refused_at_once_with_the_nearest_name(tmp_path):
    write(tmp_path / "corpus.txt", b"text")
    with pytest.raises(DataError, match=r"corpsu.txt: there is no such file or folder \(did you mean 'corpus.txt'\?\)$"):
        read_documents(str(tmp_path / "corpsu.txt"))  # without reading a document
    for source in (tmp_path / "none" / "a.txt", "", "~nobody-of-this-name/a.txt", "long " * 1000, "long/" * 1000):
        assert "there is no such file or folder" in complaint(source)
    assert "(did you mean 'python-docs'?)" in complaint("python-doc")


@pytest.mark.parametrize("name", ["openwebtext", "fineweb-edu-10bt", "bookcorpus", "oasst1", "tinyshakespeare", "the-verdict"])
def test_a_preset_is_known_but_a_local_path_wins(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert hub_source(name) is PRESETS[name] and list_files(name) == []
    write(tmp_path / name / "a.txt", b"local")
    assert hub_source(name) is None and texts(name) == ["local"]


def test_a_hub_dataset_name_is_taken_as_one_only_where_it_is_no_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub_source("HuggingFaceFW/fineweb-edu").repository == "HuggingFaceFW/fineweb-edu"
    assert hub_source("HuggingFaceFW/fineweb-edu:sample-10BT").config == "sample-10BT"
    (tmp_path / "corpus").mkdir()
    for path in ("corpus/train", "books/a.txt", "books/a.jsonl.gz", "a/b/c", "../books", "name"):
        assert "there is no such file or folder" in complaint(path)


def test_python_docs_is_a_source_and_a_local_folder_of_that_name_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = next(read_documents("python-docs"))
    assert first.origin.startswith("python-docs/topics/") and first.text
    assert list_files("python-docs") == []
    write(tmp_path / "python-docs" / "a.txt", b"local")
    assert texts("python-docs") == ["local"]


# --- standard input


def feed(monkeypatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))


def test_standard_input_is_utf8_text_whatever_the_locale(monkeypatch):
    feed(monkeypatch, "\ufeffStraße\r\n".encode())
    assert list(read_documents("-")) == [Document("Straße\n", "stdin")]
    assert list_files("-") == []


def test_standard_input_cannot_be_read_twice(monkeypatch):
    """A second reading would find nothing and blame the corpus."""
    feed(monkeypatch, b"text")
    assert texts("-") == ["text"]
    assert "can be read only once" in complaint("-")
    feed(monkeypatch, b"another process")
    assert texts("-") == ["another process"]


def test_bad_standard_input_is_named(monkeypatch):
    feed(monkeypatch, b"one\ntwo \xff")
    assert complaint("-").startswith("stdin:2: byte 8 of the file is 0xff, which is not UTF-8")
    feed(monkeypatch, b" \n")
    assert complaint("-") == "stdin: holds no text"
    monkeypatch.setattr(sys, "stdin", None)
    assert "closed" in complaint("-")


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
