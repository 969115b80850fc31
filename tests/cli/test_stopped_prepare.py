"""Ctrl-C and SIGTERM end `prepare` promptly, in a real process, with one true line: what is kept, and what the same command does."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt_kit.data import encoding, large, prepare

Run = Callable[..., tuple[int, str, str]]
SCRIPT = """
import hashlib, sys, time
from gpt_kit.cli import display, main
from gpt_kit.data import encoding, large, prepare

slowness, *words = sys.argv[1:]
large.JOURNAL_BYTES, encoding.UNIT_BYTES = 30_000, 5_000
prepare.SMALL_BYTES = 30_000 if slowness != "small" else prepare.SMALL_BYTES
show = display.PrepareDisplay.__call__

def slowly(self, activity, done, total):
    show(self, activity, done, total)
    if activity == "encoding" and done > 100_000:
        print("there", flush=True)
        time.sleep(0.2)

def deaf(*_):
    print("there", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # some minutes, in code that hears no signal

if slowness != "none":
    display.PrepareDisplay.__call__ = slowly
if slowness == "deaf":
    large.make_tokenizer = deaf
sys.exit(main(words))
"""
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
BYTE = ("--tokenizer", "byte")
NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "signal 15"}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_text("<|endoftext|>".join(f"document {i} " + "of words " * (30 + i % 50) for i in range(600)))
    return path


def begin(slowness: str, *words: object, stdin: object = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, slowness, "prepare", *map(str, words)],
        stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip


def stopped(number: signal.Signals, process: subprocess.Popen[str]) -> str:
    """Send the signal once the work is where it is slow; gives the one line that is said."""
    assert process.stdout is not None
    with process:
        for line in process.stdout:
            if line == "there\n":
                break
        sent = time.monotonic()
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
    assert time.monotonic() - sent < 6, said
    assert process.returncode == CODES[number], said
    assert said.count("\n") == 1 and said.startswith(f"gpt-kit: stopped by {NAMES[number]} while "), said
    return said


@pytest.fixture
def _small_is_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process as in the child."""
    for module, name, size in ((prepare, "SMALL_BYTES", 30_000), (large, "JOURNAL_BYTES", 30_000), (encoding, "UNIT_BYTES", 5_000)):
        monkeypatch.setattr(module, name, size)


@pytest.mark.usefixtures("_small_is_smaller")
@pytest.mark.parametrize(("number", "form"), [(signal.SIGINT, "shards"), (signal.SIGTERM, "bin")])
def test_a_large_text_is_gone_on_with_by_the_same_command(run: Run, text: Path, tmp_path: Path, number: signal.Signals, form: str) -> None:
    words = [text, "--out", tmp_path / "corpus", "--format", form, *BYTE]
    said = stopped(number, begin("large", *words))
    found = re.search(r"while encoding, (0\.\d) MB done; (0\.\d) MB of the text are kept, and the same command goes on there$", said)
    assert found and 0 < float(found[2]) <= float(found[1])
    code, out, _ = run("prepare", *words)
    assert code == 0 and "going on where an earlier preparation stopped" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus"]


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGTERM, "small"), (signal.SIGINT, "stream")])
def test_what_is_not_kept_is_said_to_begin_anew(run: Run, text: Path, tmp_path: Path, number: signal.Signals, kind: str) -> None:
    """A small text is written at once or not at all, and of a stream nobody knows how it goes on."""
    with open(text) as stream:
        words = ["-" if kind == "stream" else text, "--out", tmp_path / "corpus", *BYTE]
        said = stopped(number, begin(kind, *words, stdin=stream if kind == "stream" else None))
    assert re.search(r"while encoding, 0\.\d MB done; nothing is kept of it, so the same command begins anew$", said)
    assert kind == "stream" or not list(tmp_path.iterdir())
    assert run("prepare", text, *words[1:])[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus"]


def test_code_that_hears_no_signal_is_not_waited_for(run: Run, text: Path, tmp_path: Path) -> None:
    """As where a vocabulary of 32,000 is learned, which takes a quarter of a minute. The next attempt finds nothing in its way."""
    words = [text, "--out", tmp_path / "corpus", *BYTE]
    said = stopped(signal.SIGINT, begin("deaf", *words))
    assert re.search(r"while reading; nothing is kept of it, so the same command begins anew$", said)
    assert run("prepare", *words)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus"]
