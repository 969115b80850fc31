"""Labelled texts: the forms of file, the names of labels, and rows that cannot be used."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from gpt_kit.data.labelled import LabelledTexts, read_labelled
from gpt_kit.errors import DataError

EXAMPLES = [("a fine , moving film", 1), ('it says "ha" , twice', 0), ("dull", 0)]


def written(tmp_path: Path, name: str, text: str) -> Path:
    file = tmp_path / name
    data = text.encode()
    file.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return file


def pairs(read: LabelledTexts) -> list[tuple[str, int]]:
    return list(zip(read.texts, read.labels, strict=True))


CSV_CELLS = [f'"{text.replace(chr(34), chr(34) * 2)}",{label}' for text, label in EXAMPLES]
RECORDS = [{"label": label, "idx": i, "sentence": text} for i, (text, label) in enumerate(EXAMPLES)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", "\n".join(f"{text}\t{label}" for text, label in EXAMPLES)),
        ("a.tsv", "sentence\tlabel\r\n" + "".join(f"{text}\t{label}\r\n" for text, label in EXAMPLES)),
        ("a.tsv.gz", "\ufeffidx\tLabel\tText\n" + "".join(f"{i}\t{label}\t{text}\n" for i, (text, label) in enumerate(EXAMPLES))),
        ("a.csv", "\n".join(["text,label", *CSV_CELLS, ""])),
        ("a.csv", "\n".join(CSV_CELLS)),
        ("a.jsonl", "".join(json.dumps(record) + "\n\n" for record in RECORDS)),
        ("a.json", json.dumps(RECORDS)),
    ],
    ids=["tsv", "tsv with a header", "tsv.gz with other columns", "csv with a header", "csv", "jsonl", "json"],
)
def test_every_form_gives_the_same_examples(name: str, text: str, tmp_path: Path) -> None:
    read = read_labelled(written(tmp_path, name, text))
    assert pairs(read) == EXAMPLES
    assert (read.names, read.counts) == (("0", "1"), [2, 1])


def test_sst2_has_its_published_numbers_of_rows(data_folder: Path) -> None:
    train, dev = (read_labelled(data_folder / "sst2" / f"{part}.tsv") for part in ("train", "dev"))
    assert (len(train), train.counts) == (6920, [3310, 3610])
    assert (len(dev), dev.counts) == (872, [428, 444])
    assert dev.places[1].endswith("dev.tsv:2")


def test_labels_are_in_order_numbers_by_value_names_by_letter(tmp_path: Path) -> None:
    assert read_labelled(written(tmp_path, "a.tsv", "a\t10\nb\t9\nc\t-1\n")).names == ("-1", "9", "10")
    assert read_labelled(written(tmp_path, "b.tsv", "a\tsad\nb\tglad\nc\t sad \n")).names == ("glad", "sad")


def test_given_names_stand_for_numbers_and_for_themselves(tmp_path: Path) -> None:
    read = read_labelled(written(tmp_path, "a.tsv", "a\t1\nb\tglad\nc\t0\nd\tsad\n"), names=("sad", "glad"))
    assert (read.labels, read.names) == ((1, 1, 0, 0), ("sad", "glad"))
    called = read_labelled(written(tmp_path, "b.tsv", "a\t1\nb\t2\n"), names=("1", "2"))
    assert called.labels == (0, 1)  # called 1, not the second


def test_columns_with_other_names_are_named(tmp_path: Path) -> None:
    file = written(tmp_path, "a.csv", "phrase,score\nfine,1\ndull,0\n")
    with pytest.raises(DataError, match=r"a\.csv:1: this row's label is 'score'.*--text-key 'phrase' --label-key 'score'"):
        read_labelled(file)
    assert pairs(read_labelled(file, text_key="phrase", label_key="score")) == [("fine", 1), ("dull", 0)]
    with pytest.raises(DataError, match=r"no column 'phase' \(did you mean 'phrase'\?\); columns here: 'phrase', 'score'"):
        read_labelled(file, text_key="phase")
    records = written(tmp_path, "a.jsonl", '{"phrase": "fine", "label": 1}\n{"phrase": "dull", "label": 0}\n')
    with pytest.raises(DataError, match="there is no key 'text'; keys here: 'phrase', 'label'"):
        read_labelled(records)
    assert pairs(read_labelled(records, text_key="phrase")) == [("fine", 1), ("dull", 0)]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.tsv", "a\t1\nb\nc\t0\n", r"1 of 3 rows cannot be used.*\n  .*a\.tsv:2: 1 columns, where the first row has 2"),
        ("a.tsv", "a\t1\n \t0\n", r"a\.tsv:2: no text \(' '\)"),
        ("a.tsv", "a\t1\nb\t\n", r"a\.tsv:2: no label \(''\)"),
        ("a.tsv", "a\tb\t1\n", r"a\.tsv:1: 3 columns\. Without a header a row is a text and its label, with a tab between"),
        ("a.tsv", "a\t1\nb\t1\n", "1 different labels, such as '1'; a classifier needs 2 to 1000"),
        ("a.tsv", "", "there is no example in it"),
        ("a.csv", 'text,label\n"a" b,1\n', r"a\.csv:2: not valid CSV"),
        (
            "a.jsonl",
            '{"text": "a", "label": 1}\n{"text": "b"\n[1]\n',
            r"2 of 3 rows(?s:.*)a\.jsonl:2: not valid JSON(?s:.*):3: a list; expected",
        ),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": null}\n', r"a\.jsonl:2: no label \(None\)"),
        ("a.jsonl", '{"text": 3, "label": 1}\n', r"a\.jsonl:1: no text \(3\)"),
        ("a.json", '{"text": "a", "label": 1}', "holds a dict; expected a list of objects"),
        ("a.json", '[{"text": "a", "label": 1}, {"text": "b", "label": true}]', r"a\.json\[1\]: no label \(True\)"),
        ("a.txt", "a\t1\n", r"read from \.tsv, \.csv, \.jsonl, \.json"),
    ],
)
def test_what_cannot_be_used_is_named(name: str, text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        read_labelled(written(tmp_path, name, text))


def test_bytes_that_are_no_text_are_placed(tmp_path: Path) -> None:
    file = tmp_path / "a.tsv"
    file.write_bytes(b"a\t1\nb\xff\t0\n")
    with pytest.raises(DataError, match=r"a\.tsv:2: byte 5 of the file is 0xff"):
        read_labelled(file)


def test_labels_that_training_did_not_have_are_named_five_at_a_time(tmp_path: Path) -> None:
    file = written(tmp_path, "a.tsv", "a\tglad\n" + "b\tsadd\n" * 7)
    with pytest.raises(
        DataError, match=r"7 of 8 rows(?s:.*)a\.tsv:2: the label 'sadd' is none of glad, sad \(did you mean 'sad'\?\)"
    ) as caught:
        read_labelled(file, names=("glad", "sad"))
    assert str(caught.value).endswith("… and 2 more")
