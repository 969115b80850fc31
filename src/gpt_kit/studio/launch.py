"""The server that shows the studio: Streamlit, told to keep to itself.

No statistics are sent, no file of another host is used, no source is watched, errors show no paths. The looks stand here too.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from gpt_kit.errors import ConfigError, MissingExtraError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
SETTINGS: dict[str, Any] = {
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    "logger.enableRich": False,
    "logger.hideWelcomeMessage": True,
    "runner.magicEnabled": False,
    "server.enableStaticServing": False,
    "server.fileWatcherType": "none",
    "server.showEmailPrompt": False,
    "theme.baseRadius": "8px",
    "theme.paddingTop": "3.2rem",
    "theme.headingFontWeights": [500, 500, 600],
    "theme.headingFontSizes": ["2.1rem", "1.4rem", "1.15rem"],
    "theme.headingFont": "serif",
}
LIGHT = {
    "primaryColor": "#2f7f86", "backgroundColor": "#fdfcf9", "secondaryBackgroundColor": "#f4f1ea", "textColor": "#2c2b28",
    "borderColor": "#e2ddd2", "codeBackgroundColor": "#f6f3ec", "codeTextColor": "#2c2b28",
}  # fmt: skip
DARK = {
    "primaryColor": "#63b3b8", "backgroundColor": "#191b1d", "secondaryBackgroundColor": "#222528", "textColor": "#e6e3dc",
    "borderColor": "#383c40", "codeBackgroundColor": "#222528", "codeTextColor": "#e6e3dc",
}  # fmt: skip


def start(root: Path, *, device: str, host: str, port: int, open_browser: bool, share: bool) -> None:
    """Serve until Ctrl-C. Raises: MissingExtraError without Streamlit, ConfigError for a port in use or a host that lets others in."""
    try:
        from streamlit import net_util
        from streamlit.web import bootstrap
    except ImportError:
        raise MissingExtraError("streamlit", "studio", "the studio") from None
    if host not in LOOPBACK and not share:
        raise ConfigError(
            f"--host {host} lets others in: whoever reaches the port reads your runs and uses your models, without a password. "
            "If that is what you want, add --share"
        )
    check_port(host, port)
    net_util.get_external_ip = _nobody  # which would ask a host elsewhere who we are, as soon as a page of another origin knocks
    options = SETTINGS | {"server.address": host, "server.port": port, "server.headless": not open_browser}
    options |= {"server.allowedHosts": [] if share else list(LOOPBACK)}  # no other name may lead a browser here (DNS rebinding)
    options |= {f"theme.light.{name}": value for name, value in LIGHT.items()} | {
        f"theme.dark.{name}": value for name, value in DARK.items()
    }
    bootstrap.load_config_options(options)
    bootstrap.run(str(Path(__file__).with_name("page.py")), False, [str(root), device], options)


def check_port(host: str, port: int) -> None:
    """Raises: ConfigError where nothing can listen there."""
    if not 1 <= port <= 65535:
        raise ConfigError(f"--port must be from 1 to 65535; got {port}")
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        raise ConfigError(f"{host}:{port} cannot be listened on ({error.strerror or error}). Another studio? Choose a --port") from None


def _nobody() -> None:
    """No address of ours is known outside."""
