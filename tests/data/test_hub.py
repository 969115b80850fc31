"""Datasets of the hub: the loading code of `datasets` on small local files with the columns of the real ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpt_kit.config import CorpusConfig
from gpt_kit.data import hub, large, prepare, prepare_corpus
from gpt_kit.data.sources import Source
from gpt_kit.errors import DataError, MissingExtraError

datasets = pytest.importorskip("datasets")
ROWS = {
    "Skylion007/openwebtext": [{"text": f"page {i}\n\nwith two paragraphs"} for i in range(30)],
    "HuggingFaceFW/fineweb-edu": [{"text": f"page {i}", "id": str(i), "score": 3.5, "token_count": 2} for i in range(30)],
    "bookcorpus/bookcorpus": [{"text": f"sentence {i} ."} for i in range(30)],
    "OpenAssistant/oasst1": [{"message_id": str(i), "parent_id": None, "text": f"message {i}", "role": "prompter"} for i in range(30)],
}


@pytest.fixture
def on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """`load_dataset` finds the repositories of ROWS as local files, parquet or JSON lines; gives what it was asked."""
    real, asked = datasets.load_dataset, []
    files = {}
    for number, (name, rows) in enumerate(ROWS.items()):
        path = tmp_path / "hub" / f"{number}.{'parquet' if number % 2 else 'json'}"
        path.parent.mkdir(exist_ok=True)
        if number % 2:
            pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        files[name] = path

    def load_dataset(repository, config=None, **options):
        asked.append({"repository": repository, "config": config, **options})
        path = files[repository]
        options.pop("revision", None)
        kind = path.suffix.lstrip(".")
        return real(kind, data_files=str(path), cache_dir=str(tmp_path / "cache"), **options)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.chdir(tmp_path)
    return asked


def texts(name: str, streaming="auto") -> list[str]:
    return [found.text for _, found in Source(name, streaming=streaming).read()]


@pytest.mark.parametrize("streaming", ["on", "off"])
@pytest.mark.parametrize(
    ("name", "repository", "config"),
    [
        ("openwebtext", "Skylion007/openwebtext", None),
        ("fineweb-edu-10bt", "HuggingFaceFW/fineweb-edu", "sample-10BT"),
        ("HuggingFaceFW/fineweb-edu:sample-10BT", "HuggingFaceFW/fineweb-edu", "sample-10BT"),
        ("oasst1", "OpenAssistant/oasst1", None),
    ],
)
def test_every_row_is_a_document(on_the_hub: list[dict], name: str, repository: str, config: str | None, streaming: str) -> None:
    assert texts(name, streaming) == [row["text"] for row in ROWS[repository]]
    assert (on_the_hub[0]["repository"], on_the_hub[0]["config"], on_the_hub[0]["split"]) == (repository, config, "train")
    assert on_the_hub[0]["streaming"] is (streaming == "on")
    assert not any("trust_remote_code" in request for request in on_the_hub)


def test_large_datasets_are_streamed_unless_asked_otherwise(on_the_hub: list[dict]) -> None:
    for name in ("openwebtext", "fineweb-edu-10bt", "bookcorpus", "oasst1"):
        texts(name)
    assert [request["streaming"] for request in on_the_hub] == [True, True, True, False]


@pytest.mark.usefixtures("on_the_hub")
def test_the_sentences_of_bookcorpus_are_one_text(tmp_path: Path) -> None:
    """A row is a sentence; a document per sentence would teach a model that every text ends after one."""
    corpus = prepare_corpus("bookcorpus", tmp_path / "corpus", CorpusConfig(tokenizer="byte", val_fraction=0.5))
    assert corpus.info["split"] == "contiguous" and corpus.info["source"] == "bookcorpus"
    ids = [*corpus.train.read(0, len(corpus.train)), *corpus.val.read(0, len(corpus.val))]
    assert bytes(number for number in ids if number < 256).decode() == "".join(f"sentence {i} .\n" for i in range(30))
    assert corpus.info["read"]["documents"] == 1


@pytest.mark.usefixtures("on_the_hub")
@pytest.mark.parametrize("streaming", ["on", "off"])
def test_a_stopped_stream_goes_on_behind_what_was_written(tmp_path: Path, monkeypatch, streaming: str) -> None:
    for module, name, size in ((prepare, "SMALL_BYTES", 60), (large, "JOURNAL_BYTES", 40)):
        monkeypatch.setattr(module, name, size)
    monkeypatch.setattr("gpt_kit.data.encoding.UNIT_BYTES", 20)
    config = CorpusConfig(tokenizer="byte", streaming=streaming)
    prepare_corpus("oasst1", tmp_path / "whole", config)

    def stop(_: str, done: int, *__: int) -> None:
        if done > 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_corpus("oasst1", tmp_path / "stopped", config, stop)
    prepare_corpus("oasst1", tmp_path / "stopped", config)
    for file in (tmp_path / "whole").iterdir():
        assert file.read_bytes() == (tmp_path / "stopped" / file.name).read_bytes()


def test_a_loading_script_is_never_run_but_its_parquet_copy_read(monkeypatch, tmp_path: Path) -> None:
    asked = []

    def load_dataset(*_, **options):
        asked.append(options.get("revision"))
        if "revision" not in options:
            raise RuntimeError("Dataset scripts are no longer supported, but found bookcorpus.py")
        return datasets.Dataset.from_list([{"text": "a"}])

    copied = ["plain_text/train/0000.parquet"]
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr("huggingface_hub.list_repo_files", lambda *_, **__: copied)
    monkeypatch.chdir(tmp_path)
    assert texts("some/scripted") == ["a"]
    assert asked == [None, "refs/convert/parquet"]
    copied = ["plain_text/partial-train/0000.parquet"]
    with pytest.raises(DataError, match=r"some/scripted: is a loading script, .* is only a part. Download its files"):
        texts("some/scripted")


def test_a_text_on_the_web_is_one_document(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_text("First Citizen:\nBefore we proceed\n")
    monkeypatch.setitem(hub.PRESETS, "tinyshakespeare", hub.HubText(url=(tmp_path / "input.txt").as_uri()))
    monkeypatch.chdir(tmp_path)
    assert texts("tinyshakespeare") == ["First Citizen:\nBefore we proceed\n"]
    monkeypatch.setitem(hub.PRESETS, "the-verdict", hub.HubText(url="http://127.0.0.1:9/none.txt"))
    with pytest.raises(DataError, match=r"the-verdict: http://127.0.0.1:9/none.txt cannot be reached .*Connection refused"):
        texts("the-verdict")


@pytest.mark.usefixtures("on_the_hub")
def test_a_wrong_column_is_named() -> None:
    found = [item for _, item in Source("OpenAssistant/oasst1", text_key="txt").read()]
    assert "there is no key 'txt' (did you mean 'text'?); keys here: 'message_id'" in str(found[0])


def test_without_the_package_the_extra_is_named(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingExtraError, match=r"pip install 'gpt-kit\[datasets\]'"):
        texts("openwebtext")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "as a dataset of the hub it cannot be read"),
        ({"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}, "the hub (127.0.0.1) cannot be reached (Connection refused)"),
    ],
)
def test_without_a_network_there_is_one_line_and_soon(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    """The whole command, as somebody on a train would meet it."""
    began = time.monotonic()
    words = [sys.executable, "-m", "gpt_kit", "prepare", "openwebtext", "--out", "corpus"]
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), **changes}
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 2 and time.monotonic() - began < 20
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("gpt-kit: openwebtext: there is no such file or folder, and") and said in line
