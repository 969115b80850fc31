"""A report is read when something went wrong too: damage is named by file and line, and costs only itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from report_runs import CONFIG, MakeRun, Page, losses, score, weights_hash

from gpt_kit.errors import DataError
from gpt_kit.evaluation.report import read_run, write_report
from gpt_kit.files import write_manifest

CHECKPOINT = "checkpoints/step-00000008"


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("metrics.jsonl", '{"step": 9, "tokens_'),
        ("metrics.jsonl", '{"step": "nine", "tokens_seen": 900}'),
        ("metrics.jsonl", '{"step": 9, "tokens_seen": NaN}'),
        ("metrics.jsonl", "[]"),
        ("evaluations.jsonl", '{"task": "x", "metric": "acc"}'),
        ("evaluations.jsonl", '{"task": "x", "metric": "acc", "value": "0.9"}'),
        ("evaluations.jsonl", '{"task": 1, "metric": "acc", "value": 0.9}'),
        ("evaluations.jsonl", "\udcff\udcfe"),
    ],
)
def test_a_damaged_line_is_named_and_the_others_count(tmp_path: Path, make_run: MakeRun, file: str, line: str) -> None:
    run = make_run(scores=[score()])
    whole = (run / file).read_bytes()
    (run / file).write_bytes(whole + line.encode("utf-8", "surrogateescape") + b"\n" + whole)
    report = write_report([run], tmp_path / "report")
    number = whole.count(b"\n") + 1
    assert [problem for problem in report.problems if problem.startswith(f"{run / file}:{number}: not ")] == report.problems != []
    page = Page(report.html)
    assert f"{file}:{number}: not a" in page.text and f"{file}:{number}" in report.markdown.read_text(encoding="utf-8").replace("\\", "")
    (facts,) = report.runs
    assert len(facts.records) == len(losses(8)) * (2 if file == "metrics.jsonl" else 1) and len(facts.scores) == 1


def test_damaged_weights_are_named_and_their_hash_is_not_given(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run()
    digest, file = weights_hash(run), next(run.glob("checkpoints/*/model.safetensors"))
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    report = write_report([run], tmp_path / "report")
    assert any("does not match its manifest" in problem for problem in report.problems)
    assert digest not in Page(report.html).source and weights_hash(run) not in Page(report.html).source
    assert report.runs[0].status == "finished, without a sound checkpoint"


@pytest.mark.parametrize("deleted", [True, False])
def test_a_training_state_may_be_deleted_but_not_damaged(tmp_path: Path, make_run: MakeRun, deleted: bool) -> None:
    run = make_run()
    state = run / CHECKPOINT / "training_state" / "state.json"
    state.unlink() if deleted else state.write_text('{"data_order": {"corpus": "' + "b" * 64 + '"}}', encoding="utf-8")
    report = write_report([run], tmp_path / "report")
    assert report.problems == ([] if deleted else [f"{state}: does not match its manifest; left out"])
    assert "b" * 64 not in Page(report.html).source and weights_hash(run) in Page(report.html).source


def test_a_run_that_has_only_begun_is_reported(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run(records=[])
    shutil.rmtree(run / "checkpoints")
    report = write_report([run], tmp_path / "report")
    assert report.runs[0].status == "unfinished: step 0 of 8" and any("no finished checkpoint" in problem for problem in report.problems)


def test_a_text_that_has_changed_is_not_passed_off_as_the_run_s(make_run: MakeRun) -> None:
    run = make_run()
    (run / "corpus").mkdir()
    for name in ("corpus.json", "MANIFEST.json"):
        (run / "corpus" / name).write_text('{"val": {"tokens": 1, "bytes": 5}}', encoding="utf-8")
    facts = read_run(run, "a")
    assert facts is not None and facts.corpus == {} and any("not the one that the run read" in problem for problem in facts.problems)


def test_what_is_no_run_is_named_and_only_nothing_at_all_is_an_error(tmp_path: Path, make_run: MakeRun) -> None:
    note, missing, empty = tmp_path / "notes.txt", tmp_path / "missing", tmp_path / "empty"
    empty.mkdir()
    note.write_text("x", encoding="utf-8")
    report = write_report([note, missing, make_run(), empty, note], tmp_path / "report")
    assert [problem.partition(": ")[0] for problem in report.problems] == ["notes.txt, notes.txt", str(missing), str(empty)]
    with pytest.raises(DataError, match=r"notes\.txt.*no run"):
        write_report([note], tmp_path / "other")
    assert not list(tmp_path.glob("other*"))


def test_models_and_files_of_scores_are_reported_beside_runs(tmp_path: Path, make_run: MakeRun) -> None:
    """A merged model has no run, and what `gpt-kit eval gpt2 --out gpt2.jsonl` wrote has no folder."""
    run = make_run("a", scores=[score()])
    shutil.copytree(run / "checkpoints" / "step-00000008", tmp_path / "merged")
    shutil.copy(run / "evaluations.jsonl", tmp_path / "gpt2.jsonl")
    report = write_report([run, tmp_path / "merged", tmp_path / "gpt2.jsonl"], tmp_path / "report")
    assert not report.problems and [facts.kind for facts in report.runs] == ["pre-training", "model", "scores"]
    assert weights_hash(run) == dict([report.runs[1].weights or ("", "")])["model.safetensors"]
    assert len(report.runs[2].scores) == 1


def test_two_runs_of_one_name_are_told_apart_and_one_run_twice_is_one(tmp_path: Path, make_run: MakeRun) -> None:
    first = make_run("a")
    second = tmp_path / "elsewhere" / "a"
    shutil.copytree(first, second)
    report = write_report([first, second, first / "checkpoints", second], tmp_path / "report.html")
    assert [run.name for run in report.runs] == [str(first), str(second)]
    assert report.html == tmp_path / "report.html" and report.markdown == tmp_path / "report.md"


FILES = [
    "config.toml",
    "environment.json",
    "metrics.jsonl",
    "evaluations.jsonl",
    "samples.md",
    "checkpoints/best",
    f"{CHECKPOINT}/MANIFEST.json",
]
FILES += [f"{CHECKPOINT}/{name}" for name in ("config.json", "tokenizer.json", "model.safetensors", "training_state/state.json")]
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


@settings(max_examples=25, phases=[Phase.generate], deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), place=st.sampled_from(FILES), in_manifest=st.booleans())
def test_no_content_of_any_file_is_fatal(tmp_path: Path, make_run: MakeRun, data: st.DataObject, place: str, in_manifest: bool) -> None:
    """Random bytes in its place, or one entry of a JSON file replaced by a value of another kind; also where the manifest agrees."""
    run = tmp_path / "runs" / "spoiled"
    if not run.exists():
        make_run("spoiled", scores=[score()], config=CONFIG + "[lora]\nrank = 8\n")
    manifest = run / CHECKPOINT / "MANIFEST.json"
    whole, sound = (run / place).read_bytes(), manifest.read_bytes()
    (run / place).write_bytes(data.draw(st.binary(max_size=60) | spoilt(place, whole)))
    if in_manifest and run / place != manifest:
        write_manifest(manifest.parent)
    try:
        report = write_report([run], tmp_path / "report")
        assert Page(report.html).open == []
    finally:
        (run / place).write_bytes(whole)
        manifest.write_bytes(sound)


def spoilt(place: str, whole: bytes) -> st.SearchStrategy[bytes]:
    """The file with one entry replaced."""
    if place.endswith(".toml"):
        lines = whole.decode().splitlines()
        values = st.sampled_from(["= 'x'", "= 3", "= [1]", "= {}", "= nan", "= 1979-05-27", "]", ""])
        return st.builds(
            lambda i, value: "\n".join([*lines[:i], lines[i].partition(" = ")[0] + value, *lines[i + 1 :]]).encode(),
            st.integers(0, len(lines) - 1), values,
        )  # fmt: skip
    if not place.endswith((".json", ".jsonl")):
        return st.binary(max_size=60)
    first, _, rest = whole.partition(b"\n") if place.endswith("l") else (whole, b"", b"")
    record = json.loads(first)
    changed = st.builds(lambda key, value: {**record, key: value}, st.sampled_from(sorted(record)), JSON)
    return (changed | JSON).map(lambda value: json.dumps(value).encode() + b"\n" + rest)
