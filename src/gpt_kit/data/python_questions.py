"""Questions and answers made of Python's own documentation: what a small model is taught to chat with, without a download.

One function or class of a well-known module gives one fact, the first paragraph of its docstring, asked for in several ways:

    What does random.shuffle do?  ->  Shuffle list x in place, and return None.
"""

from __future__ import annotations

import itertools
import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from gpt_kit.data.python_docs import documented_members

MODULES = (
    "argparse", "bisect", "calendar", "collections/__init__", "contextlib", "copy", "csv", "fileinput", "fnmatch", "fractions", "functools",
    "getpass", "gzip", "hashlib", "heapq", "html/__init__", "inspect", "json/__init__", "keyword", "linecache", "mimetypes", "ntpath", "os",
    "pathlib", "posixpath", "pprint", "queue", "random", "re", "sched", "secrets", "shlex", "shutil", "statistics", "string", "subprocess",
    "tempfile", "textwrap", "threading", "timeit", "traceback", "types", "urllib/parse", "uuid", "warnings", "webbrowser", "zipfile",
)  # fmt: skip
QUESTIONS = ("What does {name} do?", "Explain {name}.", "What is {name}?", "Tell me about {name}.")
EXCHANGES = (1, 1, 2, 3, 4)
SHORTEST_ANSWER, LONGEST_ANSWER = 20, 160  # characters


def read_python_questions() -> Iterator[tuple[str, str, str]]:
    """(question, answer, where), every question of one fact before the next; the same for every run on one Python.

    Nothing is yielded by a Python that comes without its sources.
    """
    library = Path(sysconfig.get_path("stdlib"))
    answered: set[str] = set()
    for module in MODULES:
        file = library / f"{module}.py"
        if not file.is_file():
            continue
        name = module.removesuffix("/__init__").replace("/", ".")
        for header, docstring in documented_members(name, file.read_bytes()):
            asked = header.removeprefix("class ").partition("(")[0].replace("random.Random.", "random.")  # as people call it
            answer = first_paragraph(docstring)
            private = any(part.startswith("_") for part in asked.split("."))
            if private or answer in answered or asked in answered or not SHORTEST_ANSWER <= len(answer) <= LONGEST_ANSWER:
                continue
            answered |= {asked, answer}  # one answer for every question, and the other way round
            yield from ((question.format(name=asked), answer, asked) for question in QUESTIONS)


def read_python_lesson() -> Iterator[tuple[list[tuple[str, str]], str]]:
    """(questions with their answers, where): conversations of one to four, for a chat goes on, and every question stands in one."""
    questions = list(read_python_questions())
    random.Random(0).shuffle(questions)
    length = itertools.cycle(EXCHANGES)
    while questions:
        some = [questions.pop() for _ in range(min(next(length), len(questions)))]
        yield [(question, answer) for question, answer, _ in some], some[0][2]


def first_paragraph(docstring: str) -> str:
    """The first paragraph as one line; empty where it is no sentence."""
    line = re.sub(r"\s+", " ", docstring.strip().split("\n\n")[0]).strip()
    return line if line[:1].isupper() and line.endswith(".") else ""
