"""`gpt-kit quickstart --chat`: the demo's model learns to answer, is asked, and then talks with whoever is there."""

from __future__ import annotations

import dataclasses
import random
import sys
import time
import tomllib
from importlib.resources import files
from pathlib import Path

from gpt_kit.cli.display import console, print_sample, stage

ASKED = 40
"""Questions that are asked after the lesson, of those that it was taught."""
SHOWN = ("random.shuffle", "os.walk", "json.load", "textwrap.fill", "heapq.nsmallest")


def teach_and_talk(base: Path) -> None:
    """Tune the run `base` on questions about Python into the run `base`-chat; show how it answers; open the chat in a terminal."""
    from gpt_kit.cli.conversations import start_sft
    from gpt_kit.cli.runs import free_folder
    from gpt_kit.config import SftRun, config_from_dict

    started = time.monotonic()
    console.print(f"gpt-kit quickstart --chat: the GPT in {base} learns to answer\n", style="bold")
    stage("1 teach", "questions on Python, with answers out of its docstrings; learned is what is green\n")
    settings = tomllib.loads(files("gpt_kit.cli").joinpath("quickstart_chat.toml").read_text(encoding="utf-8"))
    config = config_from_dict(SftRun, settings)
    run = free_folder(base.with_name(f"{base.name}-chat"))
    start_sft(dataclasses.replace(config, sft=dataclasses.replace(config.sft, base=str(base))), run)
    stage("\n2 ask", "what it answers now, to questions of the lesson:")
    _ask(run)
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    console.print(f"({minutes}:{seconds:02d} minutes)\n")
    if sys.stdin.isatty() and sys.stdout.isatty():
        from gpt_kit.cli.chat import main

        stage("3 talk", f"your turn (later again: gpt-kit chat {run})")
        main([str(run), "--temperature", "0"])
    else:
        console.print(f"try next:\n  gpt-kit chat {run} --temperature 0")


def _ask(run: Path) -> None:
    """Some answers in full, and how many of more are word for word as taught, and end."""
    from gpt_kit.data.python_questions import read_python_questions
    from gpt_kit.generation import Chat
    from gpt_kit.model import GPTModel
    from gpt_kit.tokenizers import load_tokenizer

    lesson = list(read_python_questions())
    shown = [next(((question, answer) for question, answer, name in lesson if name == asked), None) for asked in SHOWN]
    chosen = [pair for pair in shown if pair] + [(question, answer) for question, answer, _ in random.Random(0).sample(lesson, ASKED)]
    chat = Chat(GPTModel.from_pretrained(run), load_tokenizer(run), max_new_tokens=80)
    right = ended = 0
    for number, (question, answer) in enumerate(chosen):
        chat.reset()
        given = "".join(chat.ask(question))
        right, ended = right + (given == answer), ended + (not chat.was_cut)
        if number < sum(pair is not None for pair in shown):
            print_sample(f"> {question}\n{given}")
    console.print(
        f"\nof {len(chosen)} questions of the lesson it answers {right} word for word, and ends {ended} of its answers by itself",
        style="bold",
    )
