"""`gpt-kit chat` with a model that has learned five answers by heart, three of which depend on what was said before."""

from __future__ import annotations

import io
import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt_kit.config import ModelConfig
from gpt_kit.generation import Engine, Request
from gpt_kit.model import GPTModel
from gpt_kit.tokenizers import Message, chat_tokenizer, load_tokenizer, render_chat

Run = Callable[..., tuple[int, str, str]]
CONVERSATIONS = [["one", "1", "next", "2"], ["six", "6", "next", "7"], ["next", "0"], ["long", "abcdefghijklmnop" * 3]]
TYPED = "one\nnext\n/reset\nnext\nsix\nnext\n"
ANSWERED = "1\n2\n0\n6\n7\n"


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Byte tokens, C=32, T=64, in a Hugging Face folder."""
    torch.manual_seed(0)
    tokenizer = chat_tokenizer(load_tokenizer("byte"))
    model = GPTModel(ModelConfig(
        vocab_size=tokenizer.vocab_size, max_position_embeddings=64, n_embd=32, n_head=2, n_layer=2,
        embedding_dropout=0.0, attention_dropout=0.0, residual_dropout=0.0,
    ))  # fmt: skip
    conversations = [*CONVERSATIONS, [*CONVERSATIONS[2], *CONVERSATIONS[1]]]
    rows = [
        render_chat(tokenizer, [Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts)]) for texts in conversations
    ]
    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [0] * (width - len(row.ids)) for row in rows])
    trained = torch.tensor([row.trained + [False] * (width - len(row.ids)) for row in rows])
    targets = ids.masked_fill(~trained, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(150):
        loss = torch.nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), targets[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01
    folder = tmp_path_factory.mktemp("models") / "chat"
    model.save_pretrained(folder, end_of_text_id=tokenizer.end_of_text_id)
    tokenizer.save(folder)
    return folder


@pytest.fixture
def piped(run: Run, chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    def call(text: str | bytes, *words: object) -> tuple[int, str, str]:
        data = text.encode() if isinstance(text, str) else text
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        return run("chat", chat_model, "--temperature", 0, "--device", "cpu", *words)

    return call


def test_a_pipe_gets_the_answers_alone_and_the_history_is_kept(piped: Callable) -> None:
    assert piped(TYPED) == (0, ANSWERED, "")
    assert piped("\n  \none\n\n/exit\nnext\n") == (0, "1\n", "")  # blank lines are no messages, and nothing is read behind /exit
    assert piped("") == (0, "", "")


def test_a_cut_answer_is_said_apart(piped: Callable) -> None:
    code, out, err = piped("long\n", "--max-new-tokens", 5)
    assert (code, out) == (0, "abcde\n")
    assert err == "note: the answer was cut: --max-new-tokens, or the context, was reached\n"


def test_what_drops_out_is_said_once(piped: Callable) -> None:
    """An exchange of `long` takes 54 of 64 tokens, so every further one drops the one before."""
    code, out, err = piped("long\n" * 4)
    assert (code, out.count("\n")) == (0, 4)
    assert err.count("its oldest exchanges are left out") == 1
    code, out, err = piped("long\nlong\n/reset\nlong\nlong\n")
    assert err.count("its oldest exchanges are left out") == 2  # another conversation


def test_the_system_message_stands_before_the_first_question(piped: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    from gpt_kit.generation import chat as module

    real = module.write

    def spy(engine: Engine, request: Request) -> Iterator[int]:
        seen.append(list(request.prompt))
        return real(engine, request)

    monkeypatch.setattr(module, "write", spy)
    assert piped("one\n", "--system", "Count.")[0] == 0
    assert bytes(seen[0][1:-1]) == b"Count.\n\none"


@pytest.mark.parametrize("int8", [True, False])
def test_int8_reaches_the_engine(int8: bool, run: Run, piped: Callable, chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of chat, and of generate."""
    made, init = [], Engine.__init__

    def spy(self: Engine, model: GPTModel, **options: Any) -> None:
        made.append(options.pop("int8"))
        init(self, model, **options)

    monkeypatch.setattr(Engine, "__init__", spy)
    words = ["--int8"] * int8
    assert piped("one\n", *words)[0] == 0
    assert run("generate", chat_model, "--device", "cpu", "--max-new-tokens", 2, *words)[0] == 0
    assert made == [int8, int8]


def test_the_seed_repeats_a_whole_conversation(piped: Callable) -> None:
    def talk(seed: int) -> str:
        return piped("a\nb\na\n", "--temperature", 3, "--seed", seed, "--max-new-tokens", 8)[1]

    assert talk(1) == talk(1) != talk(2)


def test_in_a_terminal(run: Run, chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt before every line, a bad message is no end, Ctrl-C stops the answer alone, an empty line leaves."""
    typed = iter(["one", "q" * 100, "/reset", "long", " next ", ""])
    monkeypatch.setattr("gpt_kit.cli.chat._is_terminal", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _prompt: next(typed))
    from gpt_kit.generation import Chat

    real = Chat.ask

    def ask(self: Chat, question: str) -> Iterator[str]:
        for number, piece in enumerate(real(self, question)):
            yield piece
            if question == "long" and number == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(Chat, "ask", ask)
    code, out, err = run("chat", chat_model, "--temperature", 0, "--device", "cpu")
    assert code == 0 and next(typed, None) is None
    header, first, second, third, *_ = out.splitlines()
    assert str(chat_model) in header and "/reset" in header
    assert (first, second) == ("1", "abc") and third
    assert err.startswith("note: this message makes a prompt of 102 tokens; the context of this model has 64")


@pytest.mark.parametrize("end", [EOFError, KeyboardInterrupt])
def test_ctrl_d_and_ctrl_c_leave_at_the_prompt(run: Run, chat_model: Path, monkeypatch: pytest.MonkeyPatch, end: type) -> None:
    def leave(_prompt: str) -> str:
        raise end

    monkeypatch.setattr("gpt_kit.cli.chat._is_terminal", lambda: True)
    monkeypatch.setattr("builtins.input", leave)
    code, out, err = run("chat", chat_model)
    assert (code, err) == (0, "") and out.endswith("\n")


def test_the_whole_command_in_a_real_terminal(chat_model: Path) -> None:
    here, there = pty.openpty()
    words = [sys.executable, "-m", "gpt_kit", "chat", str(chat_model), "--temperature", "0", "--device", "cpu"]
    process = subprocess.Popen(words, stdin=there, stdout=there, stderr=subprocess.STDOUT, close_fds=True)
    os.close(there)

    def shown_until(end: bytes) -> str:
        shown = b""
        while not shown.endswith(end) and select.select([here], [], [], 60)[0]:
            shown += os.read(here, 1000)
        return shown.decode().replace("\r", "")

    try:
        assert "/reset" in shown_until(b"> ")
        for question, answer in (("one", "1"), ("next", "2"), ("/reset", ""), ("next", "0")):
            os.write(here, f"{question}\n".encode())
            assert shown_until(b"\n> ").split("\n")[1] == answer
        os.write(here, b"\x04")
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        os.close(here)


def test_a_model_that_was_not_taught_to_answer_is_refused_with_what_to_do(run: Run, finished_run: Path) -> None:
    code, out, err = run("chat", finished_run)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and str(finished_run) in err
    assert "no chat format" in err and "gpt-kit finetune sft" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-new-tokens", 0], "--max-new-tokens must be at least 1; got 0"),
        (["--top-p", 0], "top_p must be above 0"),
        (["--seed", -1], "seed must be from 0"),
    ],
)
def test_settings_out_of_range_are_refused(piped: Callable, words: list, said: str) -> None:
    code, out, err = piped("one\n", *words)
    assert (code, out) == (2, "") and said in err


def test_a_pipe_that_is_no_text_is_refused(piped: Callable) -> None:
    code, _, err = piped(b"one\n\xff\xfe\n")
    assert code == 2 and "is not UTF-8" in err
