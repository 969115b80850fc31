"""`gpt-kit generate`: model + prompt -> text, streamed as it is written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from gpt_kit.cli.arguments import parse, read_prompt


@dataclass(frozen=True, kw_only=True)
class GenerateArguments:
    """Let a model continue a text."""

    model: tyro.conf.Positional[str]
    """A run, a checkpoint, a Hugging Face folder or hub name, or OpenAI's release files."""
    prompt: str = ""
    """The text to continue; '-' reads it from stdin; empty begins a new document."""
    max_new_tokens: int = 200
    """Most tokens to write."""
    temperature: float = 0.8
    """Spread of the choice; 0 always takes the most probable token."""
    top_k: int = 0
    """Choose among the k most probable tokens; 0 means all."""
    top_p: float = 1.0
    """Choose among the most probable tokens that together have this probability; 1 means all."""
    min_p: float = 0.0
    """Choose among tokens at least this share as probable as the most probable one; 0 means all."""
    repetition_penalty: float = 1.0
    """Above 1 makes tokens that already occur less probable."""
    stop: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = field(default=())
    """End before this text appears; may be given several times."""
    num_samples: int = 1
    """How many continuations to write, each with its own seed."""
    seed: int | None = None
    """Seed of the choice; the same seed gives the same text. Without one, every run differs."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""


def main(words: Sequence[str]) -> None:
    """Load the model and stream its text to standard output."""
    arguments = parse(GenerateArguments, "generate", words)

    from gpt_kit.errors import ConfigError
    from gpt_kit.generation import Sampling, stream_text
    from gpt_kit.model import GPTModel
    from gpt_kit.runtime import choose_device
    from gpt_kit.tokenizers import load_tokenizer

    if arguments.max_new_tokens < 1 or arguments.num_samples < 1:
        raise ConfigError(
            f"--max-new-tokens and --num-samples must be at least 1; got {arguments.max_new_tokens} and {arguments.num_samples}"
        )
    sampling = Sampling(
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        min_p=arguments.min_p,
        repetition_penalty=arguments.repetition_penalty,
    )
    device = choose_device(arguments.device)
    tokenizer = load_tokenizer(arguments.model)
    model = GPTModel.from_pretrained(arguments.model).to(device)
    prompt = read_prompt(arguments.prompt)
    for sample in range(arguments.num_samples):
        if arguments.num_samples > 1:
            print(f"{'' if sample == 0 else chr(10)}--- sample {sample + 1} of {arguments.num_samples}")
        sys.stdout.write(prompt)
        seed = None if arguments.seed is None else arguments.seed + sample
        pieces = stream_text(model, tokenizer, prompt, arguments.max_new_tokens, sampling=sampling, stop=arguments.stop, seed=seed)
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
        print()
