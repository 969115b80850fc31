"""`gpt-kit serve`: a model behind OpenAI's HTTP interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from gpt_kit.cli.arguments import parse
from gpt_kit.serving.limits import ServerLimits


@dataclass(frozen=True, kw_only=True)
class ServeArguments(ServerLimits):
    """Serve a model over HTTP, as OpenAI does: /v1/completions, /v1/chat/completions, /v1/models. SIGTERM or Ctrl-C finishes what runs."""

    model: tyro.conf.Positional[str]
    """A run, a checkpoint, a Hugging Face folder or hub name, or OpenAI's release files."""
    host: str = "127.0.0.1"
    """Address to listen on. One that other machines can reach needs a key, or --without-key."""
    port: int = 8000
    """Port to listen on; 0 takes a free one."""
    api_key_file: Path | None = None
    """A file with one API key a line; any of them opens everything, and without one only /health answers."""
    without_key: bool = False
    """Listen where other machines can reach it although there is no key."""
    name: str = ""
    """What requests call the model; empty: the last part of MODEL."""
    int8: bool = False
    """Compute in int8, on an x86 CPU: several times as fast, a little less exact."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""


def main(words: Sequence[str]) -> None:
    """Load the model and serve it until a signal asks to stop."""
    arguments = parse(ServeArguments, "serve", words)

    from gpt_kit.errors import MissingExtraError

    try:
        from gpt_kit.serving.running import DrainingServer, bind, build_service, check_exposure, read_keys, serve
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "serve", "serving") from None
    from gpt_kit.generation.engine import Engine
    from gpt_kit.locate import locate_model
    from gpt_kit.model import GPTModel
    from gpt_kit.runtime import choose_device, release_threads
    from gpt_kit.tokenizers import load_tokenizer

    keys = [] if arguments.api_key_file is None else read_keys(arguments.api_key_file)
    check_exposure(arguments.host, has_key=bool(keys), is_forced=arguments.without_key)
    device = choose_device(arguments.device)
    folder = locate_model(arguments.model)
    listener = bind(arguments.host, arguments.port)
    tokenizer = load_tokenizer(folder)
    model = GPTModel.from_pretrained(folder).to(device)
    engine = Engine(model, slots=arguments.slots, int8=arguments.int8)
    name = arguments.name or Path(arguments.model).resolve().name
    release_threads()  # the engine has a thread of its own
    service = build_service(engine, model, tokenizer, name, arguments)
    serve(DrainingServer(service, arguments, keys), listener, name)
