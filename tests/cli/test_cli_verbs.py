"""prepare -> train -> info -> generate -> import, end to end on a tiny text; what lies on disk is what transformers opens."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from gpt_kit.config import ModelConfig, create_model_config, load_run_config
from gpt_kit.data import open_corpus
from gpt_kit.files import check_manifest, read_json
from gpt_kit.locate import best_checkpoint
from gpt_kit.model import GPTModel, count_model
from gpt_kit.tokenizers import load_tokenizer
from gpt_kit.training import points_of, read_metrics

Run = Callable[..., tuple[int, str, str]]


def test_prepare_tells_what_it_wrote(run: Run, tmp_path: Path, text_file: Path) -> None:
    code, out, _ = run("prepare", text_file, "--out", tmp_path / "corpus", "--tokenizer", "char", "--val-fraction", "0.2")
    corpus = open_corpus(tmp_path / "corpus")
    assert code == 0
    assert (len(corpus.train), len(corpus.val)) == (4800, 1200)
    assert "4,800 tokens" in out and "1,200 tokens" in out
    assert "validation is the end of the same text" in out
    assert f"gpt-kit train --data {tmp_path}/corpus" in out
    check_manifest(tmp_path / "corpus")


def test_prepare_by_document_counts_repeats_and_does_not_warn(run: Run, tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"story number {i // 2} of many"}) for i in range(60)]
    (tmp_path / "stories.jsonl").write_text("\n".join(lines))
    code, out, _ = run("prepare", tmp_path / "stories.jsonl", "--out", tmp_path / "corpus", "--tokenizer", "byte")
    assert code == 0
    assert "30 documents occur more than once; equal ones stand on the same side" in out
    assert "note:" not in out


def test_train_on_raw_text_makes_a_whole_run_folder(finished_run: Path, text_file: Path) -> None:
    """Everything the house promises, and a model that has learned something."""
    assert {path.name for path in finished_run.iterdir()} >= {
        "config.toml", "environment.json", "metrics.jsonl", "loss.png", "samples.md", "checkpoints", "corpus",
    }  # fmt: skip
    config = load_run_config(finished_run / "config.toml")
    assert config.data.source == str(text_file)
    assert (config.model.n_embd, config.training.max_steps, config.training.learning_rate) == (24, 12, 0.01)
    records = read_metrics(finished_run / "metrics.jsonl")
    assert [step for step, _ in points_of(records, "train/loss")] == list(range(1, 13))
    assert [step for step, _ in points_of(records, "val/loss")] == [4, 8, 12]
    assert points_of(records, "tokens_seen")[-1] == (12, 12 * 5 * 16)
    first, last = points_of(records, "train/loss")[0][1], points_of(records, "val/loss")[-1][1]
    assert first == pytest.approx(math.log(config.model.vocab_size), abs=0.3)
    assert last < first - 0.3
    assert (finished_run / "samples.md").read_text(encoding="utf-8").count("## step") == 3
    assert (finished_run / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert read_json(finished_run / "environment.json")["torch"] == torch.__version__
    for checkpoint in (finished_run / "checkpoints").glob("step-*"):
        check_manifest(checkpoint)


def test_train_says_what_came_of_it_and_how_to_go_on(run: Run, tmp_path: Path, text_file: Path, tiny_flags: list[str]) -> None:
    assert run("prepare", text_file, "--out", tmp_path / "corpus", "--tokenizer", "char")[0] == 0
    code, out, err = run("train", "--data", tmp_path / "corpus", "--out", tmp_path / "run", *tiny_flags, "--model", "openai-gpt")
    assert (code, err) == (0, "")
    model = GPTModel.from_pretrained(tmp_path / "run")
    assert model.config.norm == "post"
    assert f"{count_model(model.config).total_parameters:,} parameters" in out
    for said in ("step 12/12", "validation loss:", f"gpt-kit generate {tmp_path}/run", "loss.png"):
        assert said in out
    assert not (tmp_path / "run" / "corpus").exists(), "a prepared corpus is used where it lies"


def test_the_command_line_goes_over_the_file_and_the_file_over_the_preset(
    run: Run, tmp_path: Path, text_file: Path, tiny_flags: list[str]
) -> None:
    (tmp_path / "run.toml").write_text(
        f'[model]\npreset = "openai-gpt"\nresidual_dropout = 0.0\n[data]\nsource = "{text_file}"\n[training]\nmax_steps = 99\nseed = 7\n'
    )
    code, _, err = run("train", "--config", tmp_path / "run.toml", "--out", tmp_path / "run", *tiny_flags, "--training.max-steps", "2")
    assert code == 0, err
    config = load_run_config(tmp_path / "run" / "config.toml")
    assert (config.model.norm, config.model.residual_dropout, config.training.seed) == ("post", 0.0, 7)
    assert (config.training.max_steps, config.model.n_layer) == (2, 2)


def test_a_text_in_one_line_trains_and_writes_its_samples(run: Run, tmp_path: Path, tiny_flags: list[str]) -> None:
    """A character vocabulary without a line break and without an end token: samples begin somewhere all the same."""
    (tmp_path / "line.txt").write_text("abc abd abe " * 100)
    code, _, err = run("train", "--data", tmp_path / "line.txt", "--out", tmp_path / "run", *tiny_flags)
    assert code == 0, err
    assert (tmp_path / "run" / "samples.md").exists()


def test_every_option_of_a_run_works_together(run: Run, tmp_path: Path, tiny_flags: list[str]) -> None:
    """Rotary positions, Muon, a padded vocabulary, the document mask, random windows, checkpointing, overlap, TensorBoard, emoji."""
    pytest.importorskip("tensorboard")
    lines = [json.dumps({"text": f"document {i} 漢 " + "word " * (i % 7 + 3)}) for i in range(80)]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    options = [
        "--data.tokenizer", "byte", "--model.position-embedding", "rotary", "--training.optimizer", "muon", "--model.vocab-multiple", "64",
        "--data.document-mask", "--data.windows", "random", "--training.activation-checkpointing", "--evaluation.stride", "8",
        "--logging.trackers", "tensorboard", "--evaluation.prompt", "😀 document", "--training.schedule", "linear",
    ]  # fmt: skip
    code, out, err = run("train", "--data", tmp_path / "texts.jsonl", "--out", tmp_path / "run", *tiny_flags, *options)
    assert code == 0, out + err
    assert any((tmp_path / "run" / "tensorboard").iterdir())
    model = GPTModel.from_pretrained(tmp_path / "run")
    assert model(torch.tensor([[1, 2, 3]])).shape == (1, 3, 257)
    code, out, err = run("train", "--out", tmp_path / "run", "--resume", "auto", "--training.max-steps", "14")
    assert code == 0, out + err
    assert "resumed from" in out and "at step 12" in out


def test_info_of_a_run_tells_parameters_tokenizer_and_history(run: Run, finished_run: Path) -> None:
    code, out, err = run("info", finished_run)
    assert (code, err) == (0, "")
    model = GPTModel.from_pretrained(finished_run)
    total = sum(tensor.numel() for tensor in model.exported_tensors().values())
    records = read_metrics(finished_run / "metrics.jsonl")
    best_step, best = min(points_of(records, "val/loss"), key=lambda point: point[1])
    for said in (
        f"{total:,}",
        "100.0%",
        "char",
        "12 steps",
        f"best {best:.4f} at step {best_step}",
        "2 layers, width 24, 3 heads",
        "context 16",
    ):
        assert said in out, said


@pytest.mark.parametrize(("name", "total"), [("gpt2-xl", "1,557,611,200"), ("openai-gpt", "116,534,784")])
def test_info_of_a_preset_needs_no_weights(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, total: str) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("info", name)
    assert code == 0 and total in out


def test_info_counts_by_component_and_the_total_is_their_sum(run: Run) -> None:
    """Parameters, MFLOP and MB of gpt2-xl, each column added up again (as rounded as it is shown)."""
    counts = count_model(create_model_config("gpt2-xl"))
    lines = [line.replace(",", "").split() for line in run("info", "gpt2-xl")[1].splitlines()]
    rows = {" ".join(words[:-4]): [float(word.rstrip("%")) for word in words[-4:]] for words in lines if "%" in "".join(words)}
    total = rows.pop("total")
    assert list(rows) == list(counts.parameters)
    for column, slack in enumerate((0, 0.3, 0.03, 0.03)):
        assert sum(row[column] for row in rows.values()) == pytest.approx(total[column], abs=slack)
    assert total[0] == 1_557_611_200 and total[3] == pytest.approx(16 * 1557.6112, abs=0.01)
    assert rows["attention"][2] == pytest.approx(counts.forward_flops["attention"] / 1e6, abs=0.01)


def test_info_reads_the_configuration_and_not_the_weights(run: Run, finished_run: Path, tmp_path: Path) -> None:
    """A folder whose weights are gone, as for a model too large to load."""
    shutil.copytree(best_checkpoint(finished_run), tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    code, out, err = run("info", tmp_path / "model")
    assert (code, err) == (0, "")
    assert f"{count_model(GPTModel.from_pretrained(finished_run).config).total_parameters:,}" in out


def test_a_runs_checkpoints_folder_stands_for_the_run(run: Run, finished_run: Path) -> None:
    assert run("info", finished_run / "checkpoints") == run("info", finished_run)
    words = ("--prompt", "the", "--seed", "1", "--max-new-tokens", "9")
    assert run("generate", finished_run / "checkpoints", *words) == run("generate", finished_run, *words)


def test_info_of_a_run_without_a_checkpoint_tells_its_settings(run: Run, finished_run: Path, text_file: Path, tmp_path: Path) -> None:
    for folder in (tmp_path / "fresh", tmp_path / "older"):
        folder.mkdir()
        shutil.copy(finished_run / "config.toml", folder)
    (tmp_path / "older" / "checkpoints").mkdir()
    for name in ("fresh", "older"):
        code, out, err = run("info", tmp_path / name)
        assert (code, err) == (0, "")
        for said in ("2 layers, width 24", "no finished checkpoint yet", "--resume auto", str(text_file), "12 steps of 5 windows, adamw"):
            assert said in out, said
    code, _, err = run("generate", tmp_path / "fresh")
    assert code == 2 and "no finished checkpoint yet" in err


def test_info_of_a_corpus_tells_what_it_holds(run: Run, finished_run: Path, text_file: Path) -> None:
    code, out, err = run("info", finished_run / "corpus")
    info = open_corpus(finished_run / "corpus").info
    assert (code, err) == (0, "")
    for said in (
        "char",
        str(text_file),
        info["split"],
        *(f"{info[side][key]:,}" for side in ("train", "val") for key in ("tokens", "bytes")),
    ):
        assert said in out, said


def test_info_of_a_mistyped_preset_says_what_was_meant_without_asking_the_hub(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpt_kit.locate._download", lambda _: pytest.fail("asked the hub"))
    code, _, err = run("info", "gtp2-small")
    assert code == 2 and "did you mean 'gpt2-small'?" in err


@pytest.mark.parametrize("verb", ["info", "generate"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nope", "nope: there is no such folder here, and the Hugging Face hub cannot be reached (Cannot reach"),
        ("no model", "no model: there is no such folder here, and a model on the Hugging Face hub cannot be called so"),
        ("vredict", "no such folder here (did you mean 'runs/verdict'?)"),
        ("runs/verdit", "no such folder, so no model to read (did you mean 'runs/verdict'?)"),
        ("runs/other", "Check the path"),
    ],
)
def test_a_name_of_nothing_is_explained(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, name: str, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "verdict").mkdir(parents=True)
    code, out, err = run(verb, name)
    assert (code, out) == (2, "") and said in err, err


def test_a_hub_that_never_answers_is_given_up(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And what was fetched from it before is used all the same."""
    import huggingface_hub

    asked: list[float] = []

    def silent(_self: object, _name: str, *, timeout: float) -> None:
        asked.append(timeout)
        raise TimeoutError("timed out")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", silent)
    code, _, err = run("info", "some/model")
    assert code == 2 and "the Hugging Face hub cannot be reached (timed out)" in err
    assert asked and max(asked) <= 10
    config = {"model_type": "gpt2", "n_embd": 24, "n_layer": 2, "n_head": 3}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda _, *, local_files_only, **__: tmp_path if local_files_only else None)
    assert "2 layers, width 24" in run("info", "some/model")[1]


@pytest.mark.parametrize("seed", ["-1", "99999999999999999999", str(2**63)])
def test_generate_refuses_a_seed_out_of_range(run: Run, finished_run: Path, seed: str) -> None:
    code, out, err = run("generate", finished_run, "--seed", seed)
    assert (code, out) == (2, "") and f"seed must be from 0 to 2**63 - 1 (9223372036854775807); got {seed}" in err


def test_generate_refuses_before_it_writes(run: Run, finished_run: Path) -> None:
    """An empty stop text, a seed that the second sample would not have, a prompt that cannot be spelled: not a letter comes out."""
    for words, said in (
        (["--stop", ""], "--stop needs a text of at least one character"),
        (["--seed", str(2**63 - 1), "--num-samples", "2"], f"got {2**63}"),
        (["--prompt", "the €", "--num-samples", "2"], "'€'"),
    ):
        code, out, err = run("generate", finished_run, *words)
        assert (code, out) == (2, "") and said in err, err


def test_generate_takes_a_prompt_of_broken_bytes(run: Run, tmp_path: Path, tiny_config: Callable[..., ModelConfig]) -> None:
    """A shell hands bytes that are no UTF-8 over as lone surrogates, which no terminal can print."""
    GPTModel(tiny_config(vocab_size=257)).save_pretrained(tmp_path / "model")
    load_tokenizer("byte").save(tmp_path / "model")
    code, out, err = run("generate", tmp_path / "model", "--prompt", "ab\udcf0\udc9f", "--max-new-tokens", "2", "--seed", "1")
    assert (code, err) == (0, "") and out.startswith("ab\ufffd\ufffd")


def test_generate_goes_on_from_the_prompt_and_a_seed_repeats(run: Run, finished_run: Path) -> None:
    first, again, other = (run("generate", finished_run, "--prompt", "the cat", "--max-new-tokens", "30", "--seed", s) for s in (1, 1, 2))
    assert first[0] == 0 and first[2] == ""
    assert first[1].startswith("the cat")
    assert len(first[1].removesuffix("\n")) == len("the cat") + 30  # a character a token
    assert first == again != other


def test_generate_writes_several_samples_and_stops_before_stop_texts(run: Run, finished_run: Path) -> None:
    code, out, _ = run("generate", finished_run, "--prompt", "the", "--num-samples", "2", "--seed", "1", "--max-new-tokens", "9")
    assert code == 0
    assert out.count("--- sample") == 2
    alone = run("generate", finished_run, "--prompt", "the", "--seed", "2", "--max-new-tokens", "9")[1]
    assert out.endswith(f"--- sample 2 of 2\n{alone}")
    whole = run("generate", finished_run, "--prompt", "the", "--seed", "1", "--max-new-tokens", "40")[1].removesuffix("\n")
    letter = whole[10]
    stopped = run("generate", finished_run, "--prompt", "the", "--seed", "1", "--max-new-tokens", "40", "--stop", letter, "--stop", "@@")[1]
    assert stopped.removesuffix("\n") == "the" + whole[3:].split(letter)[0]


def test_generate_reads_its_prompt_from_a_pipe(finished_run: Path) -> None:
    """As a process of its own: the prompt on stdin, the text on stdout, nothing else on either."""
    command = [
        sys.executable,
        "-m",
        "gpt_kit",
        "generate",
        str(finished_run),
        "--prompt",
        "-",
        "--temperature",
        "0",
        "--max-new-tokens",
        "5",
    ]
    found = subprocess.run(command, input="the cat", capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("the cat") and len(found.stdout) == len("the cat") + 5 + 1


def test_transformers_opens_the_checkpoint_as_it_lies_there(finished_run: Path) -> None:
    """Model and tokenizer through the Auto classes, no export: the same logits, the same ids."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = finished_run / "checkpoints" / (finished_run / "checkpoints" / "best").read_text().strip()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, their_tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    ids = load_tokenizer(finished_run).encode("the cat sat\non")
    assert their_tokenizer.encode("the cat sat\non", add_special_tokens=False) == ids
    with torch.no_grad():
        ours = GPTModel.from_pretrained(finished_run)(torch.tensor([ids]))
        torch.testing.assert_close(ours, theirs(torch.tensor([ids])).logits, rtol=0, atol=1e-4)


def test_import_writes_a_folder_that_generates(run: Run, tmp_path: Path) -> None:
    """A GPT-2 folder as transformers saves it, with GPT-2's tokenizer: parameters counted, text written."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"n_positions": 16, "n_embd": 24, "n_layer": 2, "n_head": 3}
    GPT2LMHeadModel(GPT2Config(**sizes)).save_pretrained(tmp_path / "published")
    load_tokenizer("gpt2").save(tmp_path / "published")
    code, out, err = run("import", tmp_path / "published", tmp_path / "ours")
    assert (code, err) == (0, "")
    model = GPTModel.from_pretrained(tmp_path / "ours")
    assert f"{count_model(model.config).total_parameters:,} parameters" in out
    check_manifest(tmp_path / "ours")
    code, out, _ = run("generate", tmp_path / "ours", "--prompt", "Hello", "--max-new-tokens", "3", "--seed", "1")
    assert code == 0 and out.startswith("Hello") and len(out) > len("Hello\n")


@pytest.mark.slow
def test_quickstart_goes_the_whole_way(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without network or files: text, an untrained sample, training, a curve, a sample, bits per byte; a taken folder gets a number.

    Its own settings, but for a model a hundredth as large: most of the time would go into reading what validates twice.
    """
    settings = files("gpt_kit.cli").joinpath("quickstart.toml").read_text(encoding="utf-8")
    for name, usual, small in (("n_layer", 4, 1), ("n_embd", 192, 24), ("max_position_embeddings", 192, 48)):
        assert f"{name} = {usual}\n" in settings
        settings = settings.replace(f"{name} = {usual}\n", f"{name} = {small}\n")
    (tmp_path / "quickstart.toml").write_text(settings, encoding="utf-8")
    monkeypatch.setattr("gpt_kit.cli.quickstart.files", lambda _: tmp_path)
    (tmp_path / "demo").mkdir()
    code, out, err = run("quickstart", "--out", tmp_path / "demo", "--max-steps", "3")
    assert (code, err) == (0, "")
    made = tmp_path / "demo-2"
    for said in ("1 text", "2 before", "3 train", "4 after", "bits per byte", "gzip -9", f"gpt-kit generate {made}"):
        assert said in out, said
    assert len(points_of(read_metrics(made / "metrics.jsonl"), "val/loss")) == 1
    assert (made / "loss.png").exists() and not any((tmp_path / "demo").iterdir())


def test_import_without_a_tokenizer_says_so(run: Run, finished_run: Path, tmp_path: Path) -> None:
    GPTModel.from_pretrained(finished_run).save_pretrained(tmp_path / "bare")
    code, out, _ = run("import", tmp_path / "bare", tmp_path / "ours")
    assert code == 0
    assert "imported without a tokenizer" in out
    assert not (tmp_path / "ours" / "tokenizer.json").exists()
