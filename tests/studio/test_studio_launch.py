"""`gpt-kit studio` before the first page: what it refuses, and how it tells Streamlit to keep to itself."""

from __future__ import annotations

import socket
import sys

import pytest

from gpt_kit.cli import main
from gpt_kit.studio import launch

streamlit = pytest.importorskip("streamlit", reason="the extra 'studio' is not installed")


@pytest.fixture
def started(monkeypatch):
    """What Streamlit was started with; it is not really."""
    from streamlit.web import bootstrap

    calls = []
    monkeypatch.setattr(bootstrap, "load_config_options", lambda _: None)
    monkeypatch.setattr(bootstrap, "run", lambda page, _, words, options: calls.append((page, words, options)))
    return calls


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_it_serves_the_folder_to_this_machine_alone(runs_folder, started, capsys):
    port = free_port()
    assert main(["studio", str(runs_folder), "--port", str(port), "--device", "cpu"]) == 0
    ((page, words, options),) = started
    assert page.endswith("page.py") and words == [str(runs_folder), "cpu"]
    assert (options["server.address"], options["server.port"], options["server.headless"]) == ("127.0.0.1", port, False)
    assert options["server.allowedHosts"] == ["127.0.0.1", "localhost", "::1"]
    assert f"http://127.0.0.1:{port}" in capsys.readouterr().out.replace("\n", "")


def test_every_setting_is_one_that_streamlit_has(runs_folder, started):
    from streamlit import config

    main(["studio", str(runs_folder), "--port", str(free_port()), "--host", "0.0.0.0", "--share", "--no-open-browser"])
    options = started[0][2]
    assert (
        options["server.headless"] is True and options["browser.gatherUsageStats"] is False and options["server.fileWatcherType"] == "none"
    )
    assert options.keys() <= config.get_config_options().keys()


def test_others_are_let_in_only_when_asked_for(runs_folder, started, capsys):
    assert main(["studio", str(runs_folder), "--host", "0.0.0.0"]) == 2
    assert "--share" in capsys.readouterr().err and not started


def test_a_port_in_use_is_said(runs_folder, started, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert main(["studio", str(runs_folder), "--port", str(server.getsockname()[1])]) == 2
    assert "Choose a --port" in capsys.readouterr().err and not started
    assert main(["studio", str(runs_folder), "--port", "0"]) == 2


def test_a_folder_that_is_not_there(tmp_path, capsys):
    assert main(["studio", str(tmp_path / "nothing")]) == 2
    assert "gpt-kit quickstart" in capsys.readouterr().err


def test_without_streamlit_the_extra_is_named(runs_folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "streamlit", None)
    assert main(["studio", str(runs_folder), "--port", str(free_port())]) == 2
    assert "pip install 'gpt-kit[studio]'" in capsys.readouterr().err


@pytest.mark.usefixtures("started")
def test_nobody_is_asked_who_we_are(runs_folder):
    from streamlit import net_util

    main(["studio", str(runs_folder), "--port", str(free_port())])
    assert net_util.get_external_ip is launch._nobody
