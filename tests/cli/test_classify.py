"""Classification from the command line: a run like any other, its answers, and what it refuses."""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import pipeline

from gpt_kit.cli import main
from gpt_kit.config import create_model_config
from gpt_kit.data import LabelledIds, read_labelled
from gpt_kit.evaluation.labels import label_probabilities
from gpt_kit.locate import best_checkpoint
from gpt_kit.model import GPTClassifier, GPTModel
from gpt_kit.runtime import choose_precision
from gpt_kit.tokenizers import load_tokenizer
from gpt_kit.tokenizers.simple import CharacterTokenizer
from gpt_kit.training import read_metrics

Run = Callable[..., tuple[int, str, str]]
NAMES = ["--classify.labels", "dull", "fine"]
FEW = ["--training.batch-size", "8", "--evaluation.interval", "5", "--training.learning-rate", "5e-3", "--training.precision", "float32"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte model with dropout, so that random states matter."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "base"
    config = create_model_config("gpt2-small", n_layer=2, n_embd=24, n_head=3, vocab_size=257, max_position_embeddings=32)
    tokenizer = load_tokenizer("byte")
    GPTModel(config).save_pretrained(folder, end_of_text_id=256)
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """62 texts of 4 to 20 letters, whose label is their last letter."""
    rng = random.Random(0)
    rows = [("".join(rng.choices("abcd", k=rng.randint(3, 19))), rng.randint(0, 1)) for _ in range(62)]
    file = tmp_path_factory.mktemp("texts") / "train.tsv"
    file.write_text("".join(f"{text}{'xy'[label]}\t{label}\n" for text, label in rows), encoding="utf-8")
    return file


def finetune(base: Path, texts: Path, out: Path, *more: object) -> Path:
    words = ["--model", base, "--data", texts, "--out", out, *FEW, *NAMES, *more]
    assert main(["finetune", "classify", *map(str, words)]) == 0
    return out


@pytest.fixture(scope="module")
def taught(base: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that has learned to look at the last letter."""
    out = tmp_path_factory.mktemp("runs") / "taught"
    return finetune(base, texts, out, "--val", texts, "--classify.epochs", 12, "--classify.lm-weight", 0.1)


def last(run: Path) -> Path:
    return run / "checkpoints" / (run / "checkpoints" / "last").read_text().strip()


def weights(run: Path) -> dict[str, torch.Tensor]:
    return GPTClassifier.from_pretrained(last(run)).exported_tensors()


def test_resuming_keeps_the_micro_batch_that_auto_found(base: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more memory free and the same words again, as in pre-training: `--resume auto` starts the run, and then goes on with it."""
    found = []
    for room, steps in ((1_200_000, 1), (4_000_000, 2)):
        monkeypatch.setattr("gpt_kit.training.fitting.free_memory", lambda _, room=room: room)
        run = finetune(
            base, texts, tmp_path / "run", "--training.micro-batch-size", "auto", "--resume", "auto", "--training.max-steps", steps
        )
        found.append(re.search(r"^micro_batch_size = (\d+)$", (run / "config.toml").read_text(), re.MULTILINE)[1])
    assert found[0] == found[1] and 1 <= int(found[0]) < 8


def test_a_run_that_was_stopped_ends_as_one_that_was_not(base: Path, texts: Path, tmp_path: Path) -> None:
    """Gone on with from a step in mid-epoch, bit for bit, and with the same figures logged."""
    run = finetune(base, texts, tmp_path / "run", "--checkpoints.interval", 5, "--checkpoints.keep", 9, "--logging.interval", 1)

    def logged() -> list[dict[str, float]]:
        return [{k: v for k, v in record.items() if k != "tokens_per_second"} for record in read_metrics(run / "metrics.jsonl")]

    expected, figures = weights(run), logged()
    assert main(["finetune", "classify", "--out", str(run), "--resume", str(run / "checkpoints" / "step-00000010")]) == 0
    for name, tensor in weights(run).items():
        assert torch.equal(tensor, expected[name]), name
    assert logged() == figures
    first = figures[0]  # what is minimised, and its parts
    assert first["train/objective"] == pytest.approx(first["train/loss"] + 0.5 * first["train/lm_loss"], rel=1e-5)
    assert figures[-1]["step"] == 21 and {"val/loss", "val/accuracy", "val/lm_loss"} <= figures[-1].keys()  # 3 epochs of 7 batches


def test_what_can_be_learned_is_learned_and_told_beside_a_bag_of_words(taught: Path, run: Run, texts: Path) -> None:
    """The last letter is no word of its own, so the bag of words can only guess."""
    figures = {(row["task"], row["metric"]): row for row in map(json.loads, (taught / "evaluations.jsonl").read_text().splitlines())}
    assert figures["classify", "accuracy"]["value"] > 0.95
    assert figures["classify", "accuracy"]["count"] == 62
    assert figures["bag of words", "f1"].keys() == figures["classify", "matthews"].keys()
    assert (taught / "confusion.png").read_bytes()[1:4] == b"PNG" and (taught / "loss.png").is_file()
    code, out, _ = run("classify", taught, "aay", "abcdabcdx")
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == ["fine", "dull"]
    code, out, _ = run("classify", taught, "--data", texts)
    assert code == 0 and "label \\ answer" in out and "accuracy" in out
    assert len((taught / "evaluations.jsonl").read_text().splitlines()) == len(figures) + 3


def test_answers_are_those_of_transformers_pipeline(taught: Path, run: Run) -> None:
    """From the text to the probability, by transformers' own tokenizer, padding and classes."""
    asked = ["aay", "abcdabcddddx", "b"]
    theirs = pipeline("text-classification", model=str(best_checkpoint(taught)), device="cpu", batch_size=3)(asked, top_k=None)
    code, out, _ = run("classify", taught, *asked, "--json")
    assert code == 0
    for line, answer in zip(out.splitlines(), theirs, strict=True):
        ours = json.loads(line)
        assert ours["label"] == answer[0]["label"]
        assert ours["probabilities"] == pytest.approx({row["label"]: row["score"] for row in answer}, abs=2e-5)


def test_info_tells_the_labels_and_where_the_run_comes_from(taught: Path, run: Run, base: Path, texts: Path) -> None:
    code, out, _ = run("info", taught)
    for line in (
        "labels      dull, fine",
        f"base        {base}",
        f"text        {texts}",
        "training    96 steps of 8 examples",
        "accuracy    1.0000 at step 96, best 1.0000 at step",
    ):
        assert code == 0 and line in out


def test_texts_come_through_a_pipe_one_a_line(taught: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("aay\n\nabx\n"))
    code, out, _ = run("classify", taught, "-")
    assert code == 0 and [line.split("  ")[-1] for line in out.splitlines()] == ["aay", "abx"]


def test_batches_do_not_change_answers(taught: Path, texts: Path) -> None:
    model, data = GPTClassifier.from_pretrained(taught), read_labelled(texts)
    ids, precision = LabelledIds(data, load_tokenizer(taught), 32), choose_precision("float32", torch.device("cpu"))
    alone = label_probabilities(model, ids, precision=precision, batch_size=1)
    torch.testing.assert_close(label_probabilities(model, ids, precision=precision, batch_size=62), alone, rtol=0, atol=1e-5)


def test_any_micro_batch_gives_the_same_run(base: Path, texts: Path, tmp_path: Path) -> None:
    still = ["--classify.inner-dropout", 0, "--classify.dropout", 0, "--training.max-steps", 3, "--classify.class-weights", 3, 1]
    one = weights(finetune(base, texts, tmp_path / "one", *still, "--micro-batch", 8))
    many = weights(finetune(base, texts, tmp_path / "many", *still, "--micro-batch", 3))
    for name, tensor in one.items():
        if not name.endswith("qkv.bias"):  # the keys' biases have no gradient but rounding, which AdamW makes as large as any other
            torch.testing.assert_close(many[name], tensor, rtol=0, atol=1e-4, msg=name)


def test_a_tokenizer_without_an_end_token_gets_one_and_freezing_freezes(texts: Path, tmp_path: Path) -> None:
    """The padding token is one more row of the embedding, and transformers' class has it too."""
    folder, tokenizer = tmp_path / "chars", CharacterTokenizer("abcdxy")
    torch.manual_seed(0)
    config = create_model_config("openai-gpt", n_layer=1, n_embd=24, n_head=3, vocab_size=6, max_position_embeddings=24)
    GPTModel(config).save_pretrained(folder)
    tokenizer.save(folder)
    run = finetune(folder, texts, tmp_path / "run", "--training.max-steps", 3, "--classify.freeze", "blocks.*", "position*")
    model, before = GPTClassifier.from_pretrained(run), GPTModel.from_pretrained(folder).exported_tensors()
    assert (model.config.vocab_size, model.pad_token_id) == (7, 6)
    for name, tensor in before.items():
        frozen = name.startswith(("blocks", "position"))
        assert torch.equal(model.exported_tensors()[name][: len(tensor)], tensor) == frozen, name
    assert json.loads((last(run) / "config.json").read_text())["architectures"] == ["OpenAIGPTForSequenceClassification"]


def test_the_recipe_of_gpt1_has_its_numbers(base: Path, texts: Path, tmp_path: Path) -> None:
    """651 steps of 32 on SST-2's 6,920 sentences have 1 step of warm-up; here 2 steps an epoch."""
    recipe = Path(__file__).parents[2] / "configs" / "gpt1-sst2.toml"
    out = tmp_path / "run"
    words = ["--config", recipe, "--model", base, "--data", texts, "--out", out, "--classify.warmup-share", "0.5"]
    assert main(["finetune", "classify", *map(str, words)]) == 0
    config = (out / "config.toml").read_text()
    given = ("batch_size = 32", "learning_rate = 6.25e-05", "lm_weight = 0.5", "closing_token = true", 'schedule = "linear"')
    for line in ("max_steps = 6", "warmup_steps = 3", *given):
        assert line in config, line
    assert [record["epoch"] for record in read_metrics(out / "metrics.jsonl") if "epoch" in record][-1] == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--classify.labels", "one"], r"62 of|the label '1' is none of one"),
        (["--classify.labels", "a", "b", "c"], "no text to learn from has the label c"),
        (["--classify.class-weights", "1", "2", "3"], r"expected one number above 0 for each label \(dull, fine\)"),
        (["--classify.max-length", "99"], "classify.max_length is 99, but this model's context is 32"),
        (["--classify.freeze", "block.*"], "fits the pattern 'block"),
        (["--val", "nowhere.tsv"], "nowhere.tsv"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(
    words: list[str], said: str, base: Path, texts: Path, tmp_path: Path, run: Run
) -> None:
    names = [] if "--classify.labels" in words else NAMES
    code, _, err = run("finetune", "classify", "--model", base, "--data", texts, "--out", tmp_path / "run", *names, *words)
    assert code == 2 and re.search(said, err), err
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_model_without_labels_and_a_question_without_text_are_refused(base: Path, taught: Path, texts: Path, run: Run) -> None:
    for words, said in (
        ((base, "a text"), "scores no labels. Teach it some with: gpt-kit finetune classify"),
        ((taught,), "give texts to label"),
        ((taught, "a", "--data", texts), "give texts to label"),
        ((taught, " "), "one that was given is empty"),
    ):
        code, _, err = run("classify", *words)
        assert code == 2 and said in err, err
