"""`gpt-kit chat`: talk with a model in the terminal, or through a pipe: a line is a message."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro

from gpt_kit.cli.arguments import SamplingArguments, parse

if TYPE_CHECKING:
    from gpt_kit.generation import Chat

LEAVE, RESET = "/exit", "/reset"


@dataclass(frozen=True, kw_only=True)
class ChatArguments(SamplingArguments):
    """Talk with a model that was taught to answer (gpt-kit finetune sft). A line is a message; an empty one, /exit or Ctrl-D leaves,
    /reset forgets what was said, Ctrl-C stops an answer."""

    model: tyro.conf.Positional[str]
    """A run, a checkpoint, or a Hugging Face folder or hub name, with the kit's chat format."""
    system: str = ""
    """What the model is told before the first message, as in its training data; empty: nothing."""
    max_new_tokens: int = 400
    """Most tokens of an answer, 1 or more. At least a quarter of the context, or this if it is less, is kept free for it."""


def main(words: Sequence[str]) -> None:
    """Load the model and answer line by line."""
    arguments = parse(ChatArguments, "chat", words)

    from gpt_kit.errors import ConfigError, TokenizerError
    from gpt_kit.generation import Chat, Engine
    from gpt_kit.generation.sampling import check_seed
    from gpt_kit.locate import locate_model
    from gpt_kit.model import GPTModel
    from gpt_kit.runtime import choose_device
    from gpt_kit.tokenizers import check_chat_tokenizer, load_tokenizer

    if arguments.max_new_tokens < 1:
        raise ConfigError(f"--max-new-tokens must be at least 1; got {arguments.max_new_tokens}")
    check_seed(arguments.seed)
    sampling = arguments.sampling()
    device = choose_device(arguments.device)
    folder = locate_model(arguments.model)
    tokenizer = load_tokenizer(folder)
    try:
        check_chat_tokenizer(tokenizer)  # before the weights are read
    except TokenizerError as error:
        raise TokenizerError(f"{arguments.model}: {error}") from None
    engine = Engine(GPTModel.from_pretrained(folder).to(device), slots=1, int8=arguments.int8)
    chat = Chat(engine, tokenizer, system=arguments.system, max_new_tokens=arguments.max_new_tokens, sampling=sampling, seed=arguments.seed)
    is_terminal = _is_terminal()
    if is_terminal:
        print(f"{arguments.model}: an empty line, {LEAVE} or Ctrl-D leaves; {RESET} forgets what was said; Ctrl-C stops an answer")
    _talk(chat, _typed_lines() if is_terminal else _piped_lines(), is_terminal)


def _talk(chat: Chat, lines: Iterator[str], is_terminal: bool) -> None:
    from gpt_kit.errors import InputError

    for line in lines:
        if line.strip() == LEAVE:
            return
        if line.strip() == RESET:
            chat.reset()
            continue
        had_dropped = chat.num_dropped
        try:
            for piece in chat.ask(line):
                sys.stdout.write(piece)
                sys.stdout.flush()
        except KeyboardInterrupt:
            if not is_terminal:
                raise
        except InputError as error:
            if not is_terminal:
                raise
            _say(str(error))
            continue
        print(flush=True)
        if chat.num_dropped and not had_dropped:
            _say("the conversation has outgrown the model's context: from here on its oldest exchanges are left out")
        if chat.was_cut:
            _say("the answer was cut: --max-new-tokens, or the context, was reached")


def _say(text: str) -> None:
    """A remark, apart from the answers."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _typed_lines() -> Iterator[str]:
    """Up to an empty one, with a prompt before each; the arrow keys work where Python has readline."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while line := input("\n> ").strip():
            yield line
        return
    print()


def _piped_lines() -> Iterator[str]:
    """All lines of standard input that are not empty. Raises: DataError when they are not UTF-8."""
    from gpt_kit.errors import DataError

    try:
        yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
    except UnicodeDecodeError as error:
        raise DataError(f"stdin: byte {error.start} is not UTF-8. Convert it: iconv -f ENCODING -t UTF-8") from None
