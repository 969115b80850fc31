"""Dockerfile, compose.yaml and space/ say the same as the package: commands parse, ports agree, files exist, nobody is root."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gpt_kit.cli import VERBS
from gpt_kit.cli.arguments import parse

ROOT = Path(__file__).parent.parent
yaml = pytest.importorskip("yaml")


def instructions(path: Path) -> list[tuple[str, str]]:
    """(instruction, the rest of its line) of a Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def last(steps: list[tuple[str, str]], name: str) -> str:
    return [rest for step, rest in steps if step == name][-1]


def last_stage(steps: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return steps[max(i for i, (step, _) in enumerate(steps) if step == "FROM") :]


def copied(steps: list[tuple[str, str]]) -> list[str]:
    """Every path that is copied from the context, not from another stage."""
    found = [
        [word for word in rest.split() if not word.startswith("--")][:-1] for step, rest in steps if step == "COPY" and "--from" not in rest
    ]
    return [name for names in found for name in names]


SERVER, SPACE = ROOT / "Dockerfile", ROOT / "space" / "Dockerfile"


def server_words() -> list[str]:
    return json.loads(last(instructions(SERVER), "ENTRYPOINT")) + json.loads(last(instructions(SERVER), "CMD"))


@pytest.mark.parametrize("file", [SERVER, SPACE])
def test_images_run_the_tested_python_and_torch_without_root(file: Path) -> None:
    steps = instructions(file)
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    python = re.search(r"on Python (3\.\d+)", constraints)
    assert python and {rest.split()[0] for step, rest in steps if step == "FROM"} == {f"python:{python[1]}-slim"}
    assert len(re.findall(r"^torch==[\d.]+$", constraints, re.MULTILINE)) == 1, "what grep '^torch==' finds is one requirement"
    installs = [command for step, rest in steps if step == "RUN" for command in rest.split("&&") if "pip install" in command]
    assert len(installs) == 2
    assert "https://download.pytorch.org/whl/cpu" in installs[0] and "grep '^torch==' constraints.txt" in installs[0]
    assert "-c constraints.txt" in installs[1]
    assert last(last_stage(steps), "USER") not in ("root", "0")


def test_the_server_image_copies_what_exists_and_is_not_ignored() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    for name in copied(instructions(SERVER)):
        assert (ROOT / name.rstrip("/")).exists()
        assert f"!{name.removeprefix('./').rstrip('/')}" in rules
    kept = [rule[1:] for rule in rules if rule.startswith("!")]
    assert not any(fnmatch.fnmatch("api-key.txt", rule) for rule in kept)
    package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {package["readme"], *package["license-files"]} <= set(kept), "what the build of the wheel reads"


def test_the_server_image_starts_a_command_that_exists() -> None:
    serve = pytest.importorskip("gpt_kit.cli.serve")
    program, verb, *words = server_words()
    assert program == "gpt-kit" and verb in VERBS
    arguments = parse(serve.ServeArguments, verb, words)
    assert (arguments.model, arguments.host, str(arguments.port)) == ("/model", "0.0.0.0", last(instructions(SERVER), "EXPOSE"))
    assert arguments.api_key_file is not None and not arguments.without_key
    assert "serve" in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def test_compose_binds_the_port_to_this_machine_and_gives_the_key_as_a_secret() -> None:
    compose: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    (service,) = compose["services"].values()
    words = server_words()
    assert service["ports"] == [f"127.0.0.1:8000:{words[words.index('--port') + 1]}"]
    (volume,) = service["volumes"]
    assert volume.endswith(f":{words[2]}:ro")
    (secret,) = service["secrets"]
    assert words[words.index("--api-key-file") + 1] == f"/run/secrets/{secret}"
    key_file = compose["secrets"][secret]["file"]
    assert f"/{Path(key_file).name}" in (ROOT / ".gitignore").read_text().splitlines(), "a key is not committed"
    user = last(instructions(SERVER), "USER")
    assert service["read_only"] and f"/home/gpt:uid={user}" in service["tmpfs"]
    assert "/tmp:exec" in service["tmpfs"], "the kernel of --int8 is made there, and run"


@pytest.fixture(params=[200, 503])
def health(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """A server whose /health answers with this status; gives (port, status)."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], request.param
    server.shutdown()
    server.server_close()


def test_the_health_check_tells_a_healthy_server_from_a_draining_one(health: tuple[int, int]) -> None:
    port, status = health
    steps = instructions(SERVER)
    _, flag, code = json.loads(last(steps, "HEALTHCHECK").partition("CMD ")[2])
    assert f":{last(steps, 'EXPOSE')}/health" in code
    done = subprocess.run([sys.executable, flag, code.replace(f":{last(steps, 'EXPOSE')}/", f":{port}/")], capture_output=True, timeout=60)
    assert (done.returncode == 0) == (status == 200)


def test_the_space_has_the_front_matter_that_hugging_face_asks_for() -> None:
    _, front, text = (ROOT / "space" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    settings = yaml.safe_load(front)
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert settings["sdk"] == "docker" and {settings["colorFrom"], settings["colorTo"]} <= colours
    assert len(settings["short_description"]) <= 60 and settings["title"] in text
    words = json.loads(last(instructions(SPACE), "CMD"))
    assert words[words.index("--port") + 1] == last(instructions(SPACE), "EXPOSE") == str(settings["app_port"])
    assert "--uid 1000" in dict(instructions(SPACE))["RUN"] or any("--uid 1000" in rest for _, rest in instructions(SPACE))


def test_the_space_starts_commands_that_exist() -> None:
    studio = pytest.importorskip("gpt_kit.cli.studio")
    program, verb, *words = json.loads(last(instructions(SPACE), "CMD"))
    assert program == "gpt-kit" and verb in VERBS
    arguments = parse(studio.StudioArguments, verb, words)
    assert (arguments.host, arguments.share, arguments.open_browser, arguments.runs) == ("0.0.0.0", True, False, Path("runs"))
    assert "studio" in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def test_make_space_gathers_a_folder_that_can_be_built() -> None:
    """What pyproject.toml and the Space's Dockerfile read is among what the Makefile copies; the demo's command exists."""
    recipe = re.search(r"^\tcp -r (.*) build/space$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert recipe
    sources = recipe[1].split()
    assert {"space/.", "src", "pyproject.toml", "constraints.txt", "LICENSE"} == set(sources)
    assert all((ROOT / source).exists() for source in sources)
    demo = next(rest for step, rest in instructions(SPACE) if step == "RUN" and rest.startswith("gpt-kit"))
    assert demo.split()[1] in VERBS
