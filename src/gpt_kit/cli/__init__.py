"""The command line: one small file a verb. This file only knows their names, so that `gpt-kit --help` answers at once."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

from gpt_kit.config.suggest import did_you_mean
from gpt_kit.errors import ConfigError, GPTKitError
from gpt_kit.version import __version__

VERBS = {
    "quickstart": "train a small GPT on Python's own documentation and watch it learn to write (about 4 minutes); --chat: and to answer",
    "prepare": "text -> a corpus of tokens on disk: gpt-kit prepare book.txt --tokenizer gpt2 --out data/book",
    "train": "corpus (or raw text) -> a trained model: gpt-kit train --data data/book --model gpt2-small --out runs/a",
    "plan": "the same settings -> memory, time, tokens and disk of that run, after a probe of some seconds",
    "finetune": "a model -> one that answers or judges: gpt-kit finetune sft --model runs/a --data chats.jsonl --out runs/chat",
    "classify": "a classifier + texts -> their labels: gpt-kit classify runs/labels 'a fine film'",
    "generate": "model + prompt -> text: gpt-kit generate runs/a --prompt 'Once upon a time'",
    "eval": "model + tasks -> figures with standard errors: gpt-kit eval runs/a --tasks perplexity --data valid.txt",
    "chat": "talk with a model that was taught to answer: gpt-kit chat runs/chat",
    "serve": "a model behind OpenAI's HTTP interface: gpt-kit serve runs/chat --port 8000",
    "studio": "runs, chat, completion and a look inside a model, in the browser: gpt-kit studio runs",
    "info": "what a model, a run or a corpus is: parameters, arithmetic, tokenizer, history",
    "doctor": "is this machine sound, and this corpus, and this model? gpt-kit doctor runs/a --data data/book",
    "merge": "a model trained with LoRA -> one that needs no base: gpt-kit merge runs/a-lora runs/a-merged",
    "export": "a model -> one GGUF file for llama.cpp: gpt-kit export runs/a model.gguf --type q8_0",
    "report": "runs side by side: one page with curves, scores, hashes and commands: gpt-kit report runs/*",
    "import": "published weights -> a folder of ours: gpt-kit import SRC DST",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb. Gives the exit code: 0, 2 when the request cannot be met, 1 when something failed while running."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    words, debug = _without_debug(words)
    try:
        return _dispatch(words)
    except BaseException as error:
        if debug:
            traceback.print_exc()
        return _explain(error)


def _without_debug(words: list[str]) -> tuple[list[str], bool]:
    """The words without the switch `--debug`, and whether it was there.

    As a word of its own it is never another flag's value: a value that begins with -- is written `--prompt=--debug`, and words after
    a bare `--` are no switches.
    """
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != "--debug"]
    return kept + words[end:], len(kept) < end


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"gpt-kit {__version__}")
        return 0
    verb, *rest = words
    if verb not in VERBS:
        raise ConfigError(f"unknown command {verb!r}{did_you_mean(verb, VERBS)}. Commands: {', '.join(VERBS)}")
    module = import_module(f"gpt_kit.cli.{'import_' if verb == 'import' else verb}")
    module.main(rest)
    return 0


def _explain(error: BaseException) -> int:
    """One clear line on stderr, and the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, BrokenPipeError):  # the reader of our output has gone, as `head` does
        sys.stderr.close()
        return 1
    code, text = 1, f"{type(error).__name__}: {error} (unexpected; --debug shows where)"
    if isinstance(error, GPTKitError):
        code, text = error.exit_code, str(error)
    elif isinstance(error, KeyboardInterrupt):
        code, text = 130, "stopped by Ctrl-C"
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        text = f"the disk is full ({error.filename or 'while writing'}). What was saved before is intact; make room and go on"
    elif isinstance(error, NotADirectoryError | FileExistsError | IsADirectoryError):
        code, text = 2, f"{error.filename}: a file stands where a folder is needed, or the other way round. Choose another path"
    elif isinstance(error, PermissionError):
        code, text = 2, f"{error.filename}: no permission to write or read there. Choose another place"
    elif isinstance(error, OSError) and error.errno == errno.EROFS:
        code, text = 2, f"{error.filename or 'while writing'}: the file system is read-only. Choose another place"
    elif import_module("gpt_kit.runtime.memory").is_out_of_memory(error):
        text = "out of memory. Lower --training.micro-batch-size (the result stays the same), or take a smaller model or context"
    sys.stdout.flush()
    print(f"gpt-kit: {text}", file=sys.stderr)
    return code


def _usage() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {text}" for verb, text in VERBS.items())
    return (
        f"gpt-kit {__version__}: from raw text to a GPT of your own\n\n"
        f"usage: gpt-kit COMMAND …\n\n{verbs}\n\n"
        "  gpt-kit COMMAND --help   every setting of a command, with its unit\n"
        "  gpt-kit COMMAND --debug  a traceback where something goes wrong"
    )
