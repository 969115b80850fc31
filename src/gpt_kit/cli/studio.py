"""`gpt-kit studio`: a web page on which runs are watched, and models are talked with and looked into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from gpt_kit.cli.arguments import parse


@dataclass(frozen=True, kw_only=True)
class StudioArguments:
    """Open the studio in the browser: runs as they go, chat, completion with every token's probability and rivals, attention and the logit
    lens, two checkpoints side by side, tokens. Nothing leaves this machine; Ctrl-C ends it."""

    runs: tyro.conf.Positional[Path] = Path("runs")
    """The folder that holds your runs and models, or one of them. Nothing outside it is read."""
    host: str = "127.0.0.1"
    """Address to listen on; one beyond this machine needs --share."""
    port: int = 8501
    """Port to listen on, 1 to 65535."""
    open_browser: bool = True
    """Open the page in a browser (--no-open-browser: only say where it is)."""
    share: bool = False
    """Allow a --host that lets others in. The studio asks nobody for a password."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""


def main(words: Sequence[str]) -> None:
    """Check what was asked for, say where the page is, and serve it."""
    arguments = parse(StudioArguments, "studio", words)

    from gpt_kit.cli.display import console
    from gpt_kit.runtime import choose_device
    from gpt_kit.studio.folder import RunsFolder
    from gpt_kit.studio.launch import start

    choose_device(arguments.device)
    root = RunsFolder(arguments.runs).root
    name = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    console.print(f"studio  {root}: http://{name}:{arguments.port}  (Ctrl-C ends it)")
    start(
        root,
        device=arguments.device,
        host=arguments.host,
        port=arguments.port,
        open_browser=arguments.open_browser,
        share=arguments.share,
    )
