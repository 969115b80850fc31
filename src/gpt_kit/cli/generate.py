"""`gpt-kit generate`: model + prompt -> text, streamed as it is written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from gpt_kit.cli.arguments import SamplingArguments, parse, read_prompt


@dataclass(frozen=True, kw_only=True)
class GenerateArguments(SamplingArguments):
    """Let a model continue a text."""

    model: tyro.conf.Positional[str]
    """A run, a checkpoint, a Hugging Face folder or hub name, or OpenAI's release files."""
    prompt: str = ""
    """The text to continue; '-' reads it from stdin; empty begins a new document."""
    stop: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = field(default=())
    """End before this text appears, one character or more; may be given several times."""
    num_samples: int = 1
    """How many continuations to write, 1 or more, each with its own seed: seed, seed + 1, …"""


def main(words: Sequence[str]) -> None:
    """Load the model and stream its text to standard output."""
    arguments = parse(GenerateArguments, "generate", words)

    from gpt_kit.errors import ConfigError
    from gpt_kit.generation import Engine, encode_prompt, stream_text
    from gpt_kit.generation.sampling import check_seed
    from gpt_kit.locate import locate_model
    from gpt_kit.model import GPTModel
    from gpt_kit.runtime import choose_device
    from gpt_kit.tokenizers import load_tokenizer
    from gpt_kit.tokenizers.base import well_formed

    if arguments.max_new_tokens < 1 or arguments.num_samples < 1:
        raise ConfigError(
            f"--max-new-tokens and --num-samples must be at least 1; got {arguments.max_new_tokens} and {arguments.num_samples}"
        )
    if "" in arguments.stop:
        raise ConfigError("--stop needs a text of at least one character; got an empty one")
    seeds = [None if arguments.seed is None else arguments.seed + sample for sample in range(arguments.num_samples)]
    for seed in seeds:
        check_seed(seed)
    sampling = arguments.sampling()
    device = choose_device(arguments.device)
    folder = locate_model(arguments.model)
    tokenizer = load_tokenizer(folder)
    prompt = well_formed(read_prompt(arguments.prompt))
    encode_prompt(prompt, tokenizer)  # one that cannot be spelled is found before anything is written
    engine = Engine(GPTModel.from_pretrained(folder).to(device), slots=1, int8=arguments.int8)
    for sample, seed in enumerate(seeds):
        if arguments.num_samples > 1:
            print(f"{'' if sample == 0 else chr(10)}--- sample {sample + 1} of {arguments.num_samples}")
        sys.stdout.write(prompt)
        pieces = stream_text(engine, tokenizer, prompt, arguments.max_new_tokens, sampling=sampling, stop=arguments.stop, seed=seed)
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
        print()
