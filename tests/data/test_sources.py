"""Sources: every form of one corpus reads the same, whatever it is called and wherever it lies."""

import gzip
import io
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_files import FORMS, PACK, TEXTS, complaint, json_lines, parquet, texts, write

from gpt_kit.data import plain_text
from gpt_kit.data.sources import PRESETS, Document, Source, hub_source, list_files, read_documents
from gpt_kit.errors import DataError

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
