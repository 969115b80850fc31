"""Every foreseeable mistake: exit code 2 (1 where something failed while running), a message that helps, and no traceback."""

from __future__ import annotations

import errno
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gpt_kit.files import check_manifest
from gpt_kit.model import GPTModel
from gpt_kit.training import read_metrics

Run = Callable[..., tuple[int, str, str]]


def refused(result: tuple[int, str, str], *said: str, code: int = 2) -> str:
    """Exit code and message are those of an error that a person can act on; gives the message in one line."""
    found, out, err = result
    flat = " ".join(re.sub(r"[│╭╮╰╯─]", " ", err).split())
    assert found == code, f"exit code {found}: {out}{err}"
    assert "Traceback" not in out + err
    assert flat and len(flat) < 900
    for part in said:
        assert part in flat, flat
    return flat


def test_an_unknown_command_says_what_was_meant(run: Run) -> None:
    refused(run("trian"), "unknown command 'trian' (did you mean 'train'?)", "prepare")


@pytest.mark.parametrize("verb", ["prepare", "train"])
def test_a_missing_text(run: Run, tmp_path: Path, verb: str) -> None:
    where = ["--data", tmp_path / "nowhere.txt"] if verb == "train" else [tmp_path / "nowhere.txt"]
    refused(run(verb, *where, "--out", tmp_path / "out"), f"{tmp_path}/nowhere.txt: there is no such file or folder")


def test_a_mistyped_text_says_what_was_meant(run: Run, tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_text("once upon a time")
    refused(run("prepare", tmp_path / "sotry.txt", "--out", tmp_path / "out"), "did you mean 'story.txt'?")


@pytest.mark.parametrize("verb", ["prepare", "train"])
def test_an_empty_text(run: Run, tmp_path: Path, verb: str) -> None:
    (tmp_path / "empty.txt").write_text(" \n")
    where = ["--data", tmp_path / "empty.txt"] if verb == "train" else [tmp_path / "empty.txt"]
    refused(run(verb, *where, "--out", tmp_path / "out"), "empty.txt: holds no text")


def test_no_text_at_all(run: Run, tmp_path: Path) -> None:
    refused(run("train", "--out", tmp_path / "out"), "no text to train on", "--data")


def test_a_text_shorter_than_the_context(run: Run, tmp_path: Path, tiny_flags: list[str]) -> None:
    (tmp_path / "short.txt").write_text("too short")
    result = run("train", "--data", tmp_path / "short.txt", "--out", tmp_path / "out", *tiny_flags)
    refused(result, "has 8 tokens, but one window needs 17", "--model.max-position-embeddings")


def test_a_width_that_the_heads_do_not_divide(run: Run, tmp_path: Path, text_file: Path) -> None:
    result = run("train", "--data", text_file, "--out", tmp_path / "out", "--model.n-embd", "100", "--model.n-head", "3")
    refused(result, "n_embd (100) must be a multiple of n_head (3); nearest: 99 or 102")


def test_the_same_in_a_toml_file(run: Run, tmp_path: Path, text_file: Path) -> None:
    (tmp_path / "run.toml").write_text("[model]\nn_embd = 100\nn_head = 3\n")
    result = run("train", "--config", tmp_path / "run.toml", "--data", text_file, "--out", tmp_path / "out")
    refused(result, f"{tmp_path}/run.toml", "n_embd (100) must be a multiple of n_head (3)")


def test_an_unknown_key_in_a_toml_file(run: Run, tmp_path: Path, text_file: Path) -> None:
    (tmp_path / "run.toml").write_text("[training]\nlearning_rat = 0.1\n")
    result = run("train", "--config", tmp_path / "run.toml", "--data", text_file, "--out", tmp_path / "out")
    refused(result, f"{tmp_path}/run.toml", "[training] unknown key 'learning_rat' (did you mean 'learning_rate'?)")


def test_a_toml_file_that_is_not_there(run: Run, tmp_path: Path, text_file: Path) -> None:
    result = run("train", "--config", tmp_path / "none.toml", "--data", text_file, "--out", tmp_path / "out")
    refused(result, "none.toml: there is no such file")
    refused(run("train", "--config", tmp_path, "--out", tmp_path / "out"), f"{tmp_path}: is a folder; a TOML file is expected")


@pytest.mark.parametrize("words", [["--training.learning-rat", "1"], ["--training.max-steps", "many"], ["--data.split", "documents"]])
def test_flags_that_cannot_be_read(run: Run, tmp_path: Path, text_file: Path, words: list[str]) -> None:
    refused(run("train", "--data", text_file, "--out", tmp_path / "out", *words), words[0])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--training.max-steps", "0"],
        ["--training.beta1", "1.0"],
        ["--training.seed", str(2**63)],
        ["--training.learning-rate", "nan"],
        ["--model.layer-norm-epsilon", "inf"],
        ["--data.val-fraction", "1.0"],
        ["--evaluation.interval", "0"],
    ],
)
def test_flags_out_of_range(run: Run, tmp_path: Path, text_file: Path, words: list[str]) -> None:
    name = words[0].split(".")[1].replace("-", "_")
    refused(run("train", "--data", text_file, "--out", tmp_path / "out", *words), name, f"got {words[1]}")


def test_a_flag_that_needs_a_value(run: Run) -> None:
    refused(run("train", "--out"), "--out needs a value")


@pytest.mark.parametrize("mistyped", ["gpt2-smal", "gtp2-small"])
def test_a_preset_that_is_not_known(run: Run, tmp_path: Path, text_file: Path, mistyped: str) -> None:
    refused(run("train", "--data", text_file, "--out", tmp_path / "out", "--model", mistyped), "did you mean 'gpt2-small'?")


def test_a_device_that_is_not_there(run: Run, tmp_path: Path, text_file: Path, tiny_flags: list[str], finished_run: Path) -> None:
    flags = [*tiny_flags, "--training.device", "cuda:99"]
    refused(run("train", "--data", text_file, "--out", tmp_path / "out", *flags), "device 'cuda:99' is not there", "cpu")
    refused(run("generate", finished_run, "--device", "cuda:99"), "device 'cuda:99' is not there")


def test_a_tokenizer_that_is_not_known(run: Run, tmp_path: Path, text_file: Path) -> None:
    refused(run("prepare", text_file, "--out", tmp_path / "out", "--tokenizer", "gtp2"), "did you mean 'gpt2'?")


def test_a_vocabulary_that_contradicts_the_tokenizer(run: Run, tmp_path: Path, text_file: Path, tiny_flags: list[str]) -> None:
    result = run("train", "--data", text_file, "--out", tmp_path / "out", *tiny_flags, "--model.vocab-size", "99")
    refused(result, "model.vocab_size is 99, but the tokenizer 'char' has")


def test_a_document_mask_without_an_end_token(run: Run, tmp_path: Path, text_file: Path, tiny_flags: list[str]) -> None:
    result = run("train", "--data", text_file, "--out", tmp_path / "out", *tiny_flags, "--data.document-mask")
    refused(result, "document_mask needs a tokenizer with an end token; 'char' has none")


def test_a_sample_prompt_that_the_tokenizer_cannot_spell(run: Run, tmp_path: Path, text_file: Path, tiny_flags: list[str]) -> None:
    """Found before the first step, not at the first evaluation."""
    result = run("train", "--data", text_file, "--out", tmp_path / "out", *tiny_flags, "--evaluation.prompt", "€")
    refused(result, "'€'")
    assert read_metrics(tmp_path / "out" / "metrics.jsonl") == []


def test_an_evaluation_stride_beyond_the_context(run: Run, tmp_path: Path, text_file: Path, tiny_flags: list[str]) -> None:
    result = run("train", "--data", text_file, "--out", tmp_path / "out", *tiny_flags, "--evaluation.stride", "17")
    refused(result, "stride")
    assert read_metrics(tmp_path / "out" / "metrics.jsonl") == []


def test_a_folder_that_already_holds_a_run(run: Run, finished_run: Path, text_file: Path, tiny_flags: list[str]) -> None:
    before = sorted(path.name for path in (finished_run / "checkpoints").iterdir())
    result = run("train", "--data", text_file, "--out", finished_run, *tiny_flags)
    refused(result, "this folder already holds a run", "--resume auto", "--out")
    assert sorted(path.name for path in (finished_run / "checkpoints").iterdir()) == before


def test_a_folder_that_another_process_writes_to(run: Run, tmp_path: Path, text_file: Path, tiny_flags: list[str]) -> None:
    code = "import sys, pathlib, gpt_kit.files as f\nwith f.lock_folder(pathlib.Path(sys.argv[1])): print('held', flush=True); input()"
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        result = run("train", "--data", text_file, "--out", tmp_path / "out", *tiny_flags)
        holder.communicate(b"\n")
    refused(result, f"another run (process {holder.pid} on {platform.node()}) is writing into this folder")


def test_a_prepared_corpus_is_not_overwritten(run: Run, tmp_path: Path, text_file: Path) -> None:
    assert run("prepare", text_file, "--out", tmp_path / "corpus", "--tokenizer", "char")[0] == 0
    refused(run("prepare", text_file, "--out", tmp_path / "corpus", "--tokenizer", "char"), "already holds a corpus")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    refused(run("prepare", text_file, "--out", tmp_path / "other"), "this folder is not empty")
    assert (tmp_path / "other" / "thesis.tex").read_text() == "years of work"


def test_a_file_where_a_folder_should_be(run: Run, tmp_path: Path, text_file: Path, tiny_flags: list[str]) -> None:
    (tmp_path / "out").write_text("a file")
    refused(run("prepare", text_file, "--out", tmp_path / "out"), str(tmp_path / "out"))
    refused(run("train", "--data", text_file, "--out", tmp_path / "out", *tiny_flags), str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "a file"


def test_nothing_to_resume(run: Run, tmp_path: Path) -> None:
    refused(run("train", "--out", tmp_path / "none", "--resume", "auto"), "nothing to resume", "config.toml is missing")


def test_resuming_on_text_of_another_tokenizer(run: Run, tmp_path: Path, tiny_flags: list[str]) -> None:
    """The same number of characters, but other ones: every shape fits, and every id would mean something else."""
    for name, text in (("one", "abc\n" * 300), ("two", "xyz\n" * 300)):
        (tmp_path / f"{name}.txt").write_text(text)
        assert run("prepare", tmp_path / f"{name}.txt", "--out", tmp_path / name, "--tokenizer", "char")[0] == 0
    flags = [*tiny_flags, "--training.max-steps", "2"]
    assert run("train", "--data", tmp_path / "one", "--out", tmp_path / "run", *flags)[0] == 0
    result = run("train", "--out", tmp_path / "run", "--resume", "auto", "--data", tmp_path / "two", "--training.max-steps", "4")
    refused(result, "tokenizer")


def test_resuming_with_another_optimizer(run: Run, tmp_path: Path, text_file: Path, tiny_flags: list[str]) -> None:
    assert run("train", "--data", text_file, "--out", tmp_path / "run", *tiny_flags, "--training.max-steps", "2")[0] == 0
    result = run("train", "--out", tmp_path / "run", "--resume", "auto", "--training.optimizer", "muon", "--training.max-steps", "4")
    refused(result, "optimizer")


def test_resuming_with_another_model(run: Run, finished_run: Path) -> None:
    refused(run("train", "--out", finished_run, "--resume", "auto", "--model.n-layer", "3"), "n_layer is 3, was 2")


@pytest.mark.parametrize("verb", ["generate", "info", "import"])
@pytest.mark.parametrize("model", ["./no/such/folder", "no-such-model"])
def test_a_model_that_is_not_there(run: Run, tmp_path: Path, verb: str, model: str) -> None:
    refused(run(verb, model, *([tmp_path / "out"] if verb == "import" else [])), model.removeprefix("./"))
    assert not (tmp_path / "out").exists()


def test_an_empty_folder_is_no_model(run: Run, tmp_path: Path) -> None:
    refused(run("info", tmp_path), "no model in this folder")
    refused(run("generate", tmp_path), str(tmp_path))


def test_a_damaged_model_is_not_generated_from(run: Run, finished_run: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(finished_run, tmp_path / "run")
    for weights in (tmp_path / "run").rglob("model.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-100])
    refused(run("generate", tmp_path / "run", "--prompt", "the"), "model.safetensors")


@pytest.mark.parametrize(
    "words", [["--temperature", "-1"], ["--top-p", "0"], ["--max-new-tokens", "0"], ["--num-samples", "0"], ["--top-k", "-3"]]
)
def test_sampling_out_of_range(run: Run, finished_run: Path, words: list[str]) -> None:
    refused(run("generate", finished_run, "--prompt", "the", *words), words[1], "must be")


def test_a_prompt_that_the_vocabulary_cannot_spell(run: Run, finished_run: Path) -> None:
    refused(run("generate", finished_run, "--prompt", "the €"), "'€'", "at position 4")


def test_importing_over_something(run: Run, finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    refused(run("import", finished_run, tmp_path / "there"), "already exists")


def test_debug_shows_where(run: Run, tmp_path: Path) -> None:
    code, _, err = run("train", "--data", tmp_path / "nowhere.txt", "--out", tmp_path / "out", "--debug")
    assert code == 2
    assert "Traceback (most recent call last)" in err and "DataError" in err
    assert err.rstrip().splitlines()[-1].startswith("gpt-kit: ")


def test_debug_is_a_switch_only_where_it_can_be_no_value(run: Run, finished_run: Path) -> None:
    code, _, err = run("generate", "--debug", finished_run, "--prompt=--debug")
    assert code == 2 and "Traceback" in err and "'-'" in err  # the prompt arrived: this vocabulary cannot spell it
    refused(run("generate", finished_run, "--prompt=--debug"), "'-'")
    refused(run("generate", finished_run, "--", "--debug"), "--debug")
    code, _, err = run("generate", finished_run, "--prompt", "--debug")
    assert code == 2 and "Missing value for argument '--prompt'" in err


@pytest.mark.parametrize(
    "words",
    [*(["--minutes", value] for value in ("nan", "inf", "0", "-1", "1441")), ["--max-steps", "-1"], ["--max-steps", str(2**63)]],
    ids=" ".join,
)
def test_a_quickstart_that_cannot_be_made_is_refused_before_any_work(run: Run, tmp_path: Path, words: list[str]) -> None:
    result = run("quickstart", "--out", tmp_path / "demo", *words)
    refused(result, f"{words[0]} must be", "got")
    assert result[1] == "" and not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] data. DefaultCPUAllocator: can't allocate memory: tried to allocate 9 bytes."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: not enough memory: tried to allocate 9 bytes."),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 18.00 GB)"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
    ids=lambda error: str(error)[:40],
)
def test_memory_that_runs_out(run: Run, finished_run: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def greedy(*_: object) -> None:
        raise error

    monkeypatch.setattr(GPTModel, "from_pretrained", greedy)
    refused(run("generate", finished_run), "gpt-kit: out of memory. Lower --training.micro-batch-size", code=1)


def test_a_file_system_that_is_read_only(run: Run, finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/media/disc/run")

    monkeypatch.setattr(GPTModel, "from_pretrained", read_only)
    refused(run("generate", finished_run), "/media/disc/run: the file system is read-only. Choose another place")


def test_what_nobody_foresaw_is_one_line_and_code_1(run: Run, finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(GPTModel, "from_pretrained", broken)
    refused(run("generate", finished_run), "ZeroDivisionError: division by zero", "--debug shows where", code=1)


def test_ctrl_c_outside_a_run(run: Run, finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(GPTModel, "from_pretrained", interrupted)
    refused(run("generate", finished_run), "stopped by Ctrl-C", code=130)


def test_a_disk_that_fills_up_leaves_the_earlier_checkpoint(
    run: Run, tmp_path: Path, text_file: Path, tiny_flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full from the checkpoint of step 8 on: exit code 1, step 4 is whole and still pointed to, no half folder, and it goes on."""
    sync = os.fsync

    def full_from_step_8(handle: int) -> None:
        if "step-00000008" in str(Path(f"/proc/self/fd/{handle}").readlink()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(os, "fsync", full_from_step_8)
    result = run("train", "--data", text_file, "--out", tmp_path / "run", *tiny_flags, "--checkpoints.on-full-disk", "stop")
    refused(result, "the disk is full", "make room", code=1)
    checkpoints = tmp_path / "run" / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["best", "last", "step-00000004"]
    assert (checkpoints / "last").read_text() == "step-00000004\n"
    check_manifest(checkpoints / "step-00000004")
    monkeypatch.undo()
    assert run("train", "--out", tmp_path / "run", "--resume", "auto")[0] == 0
    assert (checkpoints / "last").read_text() == "step-00000012\n"


def test_a_disk_that_is_full_while_preparing_leaves_nothing(
    run: Run, tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    refused(run("prepare", text_file, "--out", tmp_path / "corpus", "--tokenizer", "char"), "the disk is full", code=1)
    assert list(tmp_path.iterdir()) == []
