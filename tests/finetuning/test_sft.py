"""Supervised fine-tuning as a run: what is learned, what is refused, and that it can be stopped and gone on with like any other."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from gpt_kit.cli import main
from gpt_kit.config import create_model_config
from gpt_kit.data import Example, read_conversations
from gpt_kit.finetuning import encode_conversations, problem_of
from gpt_kit.generation import Chat
from gpt_kit.model import GPTModel
from gpt_kit.tokenizers import chat_tokenizer, load_tokenizer
from gpt_kit.training import read_metrics

FEW = ["--training.batch-size", "4", "--evaluation.interval", "4", "--evaluation.sample-tokens", "4", "--sft.val-fraction", "0.2"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without chat tokens, with dropout, so that random states matter."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "base"
    config = create_model_config("gpt2-small", n_layer=2, n_embd=24, n_head=3, vocab_size=257, max_position_embeddings=64)
    tokenizer = load_tokenizer("byte")
    GPTModel(config).save_pretrained(folder, end_of_text_id=tokenizer.end_of_text_id)
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("records") / "records.json"
    rows = [{"instruction": f"say {i}", "input": "", "output": f"{i} {'abc'[: i % 4]}"} for i in range(20)]
    file.write_text(json.dumps(rows), encoding="utf-8")
    return file


def finetune(base: Path, records: Path, out: Path, *more: str) -> Path:
    assert main(["finetune", "sft", "--model", str(base), "--data", str(records), "--out", str(out), *FEW, *more]) == 0
    return out


def weights(run: Path) -> dict[str, torch.Tensor]:
    return GPTModel.from_pretrained(run / "checkpoints" / (run / "checkpoints" / "last").read_text().strip()).exported_tensors()


@pytest.mark.parametrize("lora", [(), ("--lora.rank", "2", "--lora.dropout", "0.1")], ids=["all weights", "LoRA"])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(base: Path, records: Path, tmp_path: Path, lora: tuple[str, ...]) -> None:
    """Gone on with from a step in mid-epoch, bit for bit, the logged losses too; with dropout."""
    every = ["--checkpoints.interval", "3", "--checkpoints.keep", "9", "--logging.interval", "1"]
    run = finetune(base, records, tmp_path / "run", *lora, *every)
    expected, logged = weights(run), losses(run)
    assert main(["finetune", "sft", "--out", str(run), "--resume", str(run / "checkpoints" / "step-00000003")]) == 0
    for name, tensor in weights(run).items():
        assert torch.equal(tensor, expected[name]), name
    assert losses(run) == logged
    assert len(logged) == 8


def test_examples_seen_many_times_are_no_cause_for_a_remark(
    base: Path, records: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten passes: of running text the watch would speak after four."""
    finetune(base, records, tmp_path / "run", "--sft.epochs", "10")
    out = capsys.readouterr().out
    assert "40 steps" in out and "has been seen" not in out


def losses(run: Path) -> list[float]:
    return [float(record["train/loss"]) for record in read_metrics(run / "metrics.jsonl") if "train/loss" in record]


def test_any_split_into_micro_batches_gives_the_same_update(base: Path, records: Path, tmp_path: Path) -> None:
    """Replies of different length: a mean of means would weigh the short ones more. Dropout off: it is drawn per pass."""
    still = ["--training.max-steps", "3", "--training.precision", "float32"]
    plain = tmp_path / "plain"
    model = GPTModel.from_pretrained(base)
    model.config = dataclasses.replace(model.config, embedding_dropout=0.0, attention_dropout=0.0, residual_dropout=0.0)
    model.save_pretrained(plain, end_of_text_id=256)
    load_tokenizer(base).save(plain)
    one = weights(finetune(plain, records, tmp_path / "one", *still, "--training.micro-batch-size", "99"))
    many = weights(finetune(plain, records, tmp_path / "many", *still, "--training.micro-batch-size", "1"))
    for name, tensor in one.items():
        torch.testing.assert_close(many[name], tensor, rtol=0, atol=2e-5)


def test_the_folder_is_a_chat_model_for_transformers(base: Path, records: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    run = finetune(base, records, tmp_path / "run", "--training.max-steps", "2")
    folder = run / "checkpoints" / "step-00000002"
    assert (folder / "chat_template.jinja").is_file()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "say 3"}], add_generation_prompt=True, return_dict=False)
    logits = transformers.AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([ids])).logits
    torch.testing.assert_close(GPTModel.from_pretrained(run)(torch.tensor([ids])), logits, rtol=1e-4, atol=1e-4)
    assert "answered:" in (run / "samples.md").read_text(encoding="utf-8")


def test_what_is_frozen_stays_to_the_bit(base: Path, records: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finetune(base, records, tmp_path / "run", "--training.max-steps", "3", "--sft.freeze", "token_embedding*", "blocks.0.*")
    before, after = GPTModel.from_pretrained(base).exported_tensors(), weights(run)
    changed = {name for name, tensor in after.items() if not torch.equal(tensor[: len(before[name])], before[name])}
    assert changed
    assert not any(name.startswith(("token_embedding", "blocks.0.")) for name in changed)
    assert "trains " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"instruction": "x" * 70, "output": "y"}, "its answer would be cut off"),
        ({"messages": [{"role": "user", "content": "hello"}]}, "it has no answer"),
    ],
)
def test_data_that_cannot_teach_are_refused_by_name_or_left_out_with_a_count(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], row: dict[str, object], problem: str
) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([{"instruction": f"say {i}", "output": "yes"} for i in range(5)] + [row]), encoding="utf-8")
    words = ["finetune", "sft", "--model", str(base), "--data", str(file), *FEW, "--sft.val-fraction", "0", "--training.max-steps", "1"]
    assert main([*words, "--out", str(tmp_path / "refused")]) == 2
    told = capsys.readouterr().err
    assert "rows.json[5]" in told and problem in told and "1 of 6" in told
    assert main([*words, "--out", str(tmp_path / "run"), "--sft.on-unusable", "skip"]) == 0
    assert "1 cannot teach" in " ".join(capsys.readouterr().out.split())


def test_an_end_that_is_not_learned_is_a_problem() -> None:
    """However an example was made."""
    assert "end token is not trained" in problem_of(Example([1, 2, 3, 4], [False, True, True, False]), 8)
    assert "its answer is empty" in problem_of(Example([1, 2, 3, 4], [False, False, False, True]), 8)
    assert problem_of(Example([1, 2, 3, 4], [False, False, True, True]), 8) == ""


def test_long_conversations_lose_whole_exchanges_only(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer(load_tokenizer("byte"))
    turns = [{"role": "user" if i % 2 == 0 else "assistant", "content": f"{i}" * 5} for i in range(8)]
    file = tmp_path / "chat.jsonl"
    file.write_text(json.dumps({"messages": turns}), encoding="utf-8")
    encoded = encode_conversations(read_conversations(str(file)), tokenizer, 30)
    assert encoded.shortened == 1
    (example,) = encoded.examples
    assert example.ids[-1] == tokenizer.end_of_text_id
    assert tokenizer.decode(example.ids) == "<|user|>00000<|assistant|>11111<|endoftext|><|user|>22222<|assistant|>33333<|endoftext|>"


def test_a_model_learns_to_answer_as_it_was_taught_and_then_stops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From random weights to word-for-word answers in the chat, alone and in a longer talk."""
    config = create_model_config("gpt2-small", n_layer=2, n_embd=48, n_head=3, vocab_size=257, max_position_embeddings=128)
    still = dataclasses.replace(config, embedding_dropout=0.0, attention_dropout=0.0, residual_dropout=0.0)
    torch.manual_seed(0)
    GPTModel(still).save_pretrained(tmp_path / "base", end_of_text_id=256)
    load_tokenizer("byte").save(tmp_path / "base")
    facts = [("sky?", "blue"), ("grass?", "green as peas"), ("snow?", "white")]
    orders = [facts, facts[::-1], facts[1:] + facts[:1], facts[:1], facts[1:2], facts[2:]]
    talks = [[turn for q, a in order for turn in ({"role": "user", "content": q}, {"role": "assistant", "content": a})] for order in orders]
    file = tmp_path / "talks.jsonl"
    file.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks), encoding="utf-8")
    run = finetune(
        tmp_path / "base", file, tmp_path / "run", "--sft.val-fraction", "0", "--sft.epochs", "50", "--training.learning-rate", "3e-3",
        "--training.batch-size", "6",
    )  # fmt: skip
    capsys.readouterr()
    model, tokenizer = GPTModel.from_pretrained(run), load_tokenizer(run)
    chat = Chat(model, tokenizer, max_new_tokens=30)
    for question, answer in facts:
        assert "".join(chat.ask(question)) == answer
        assert not chat.was_cut


def test_adapters_belong_to_the_base_that_they_were_trained_on(base: Path, records: Path, tmp_path: Path) -> None:
    """A run begun anew in the same folder with another model; and a base that is another run's checkpoint, which then goes away."""
    other = tmp_path / "other"
    torch.manual_seed(1)
    GPTModel(GPTModel.from_pretrained(base).config).save_pretrained(other, end_of_text_id=256)
    load_tokenizer(base).save(other)
    lora = ["--lora.rank", "2", "--training.max-steps", "2"]
    run = finetune(base, records, tmp_path / "run", *lora)
    shutil.rmtree(run / "checkpoints")
    finetune(other, records, run, *lora)
    frozen = "blocks.0.attention_norm.weight", "token_embedding.weight"
    expected = GPTModel.from_pretrained(other).exported_tensors()
    for name in frozen:
        assert torch.equal(weights(run)[name][:257], expected[name])

    whole = finetune(base, records, tmp_path / "whole", "--training.max-steps", "2")
    upon = finetune(whole, records, tmp_path / "upon", *lora)
    shutil.rmtree(whole)
    assert main(["merge", str(upon), str(tmp_path / "merged")]) == 0
