"""The studio in a real browser (Debian's chromium, headless), on tiny models whose folder and texts try to become markup."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt_kit.studio.app import ROOMS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
playwright = pytest.importorskip("playwright.sync_api", reason="the browser's driver is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")]
HURT = "<img src=x onerror='window.hurt=1'>"
PATIENCE = 60_000  # milliseconds


@pytest.fixture(scope="module")
def hostile_folder(runs_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = shutil.copytree(runs_folder, tmp_path_factory.mktemp("hostile") / "runs")
    (root / "story").rename(root / f"story {HURT.replace('/', '')} **bold**")
    return root


@pytest.fixture(scope="module")
def address(hostile_folder: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    words = ["-m", "gpt_kit", "studio", str(hostile_folder), "--port", str(port), "--no-open-browser", "--device", "cpu"]
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    try:
        _wait_for(f"http://127.0.0.1:{port}/_stcore/health", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, "the studio ended"
            time.sleep(0.1)
    raise AssertionError("the studio did not answer")


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, address):
    """A page that notes every host it speaks to and every error of its scripts; both must be as they should in the end."""
    opened, hosts, errors = browser.new_page(viewport={"width": 1400, "height": 900}), set(), []
    opened.set_default_timeout(PATIENCE)
    opened.on("request", lambda request: hosts.add(request.url.split("/")[2]) if "://" in request.url else None)
    opened.on("websocket", lambda socket: hosts.add(socket.url.split("/")[2]))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    assert opened.evaluate("window.hurt") is None
    assert hosts <= {address.removeprefix("http://")}, hosts
    assert errors == []
    opened.close()


def settle(page) -> None:
    page.wait_for_timeout(300)
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")


def go(page, address: str, room: str) -> None:
    page.goto(f"{address}/{room}")
    page.wait_for_selector("h1")
    settle(page)


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_opens_and_asks_no_other_host(page, address, room):
    go(page, address, "" if room == "Runs" else room.lower())
    assert page.locator("h1").inner_text() == room
    assert page.locator("[data-testid=stException]").count() == 0


def test_a_click_shows_rivals_and_takes_one(page, address):
    go(page, address, "complete")
    page.locator("textarea").first.fill(f"ab {HURT}")
    page.get_by_role("button", name="Write").click()
    page.wait_for_selector(".strip .token.written")
    settle(page)
    tokens = page.locator(".strip .token")
    assert "".join(tokens.all_text_contents()).startswith(f"ab {HURT}")
    assert page.locator(".strip img").count() == 0
    position = page.locator(".strip .token.prompt").count() + 1
    tokens.nth(position).click()
    rivals = page.locator(".strip .rival")
    assert rivals.count() >= 8 and page.locator(".strip .rival.own").count() == 1
    other = page.locator(".strip .rival:not(.own)").first
    name = other.get_attribute("title")
    head = tokens.all_text_contents()[:position]
    other.click()
    page.wait_for_selector(".strip .token.taken")
    settle(page)
    assert tokens.all_text_contents()[:position] == head
    assert page.locator(".strip .token.taken").count() == 1
    assert f" {name} " in page.locator(".strip .facts").inner_text()


def test_attention_follows_the_mouse(page, address):
    go(page, address, "inside")
    page.wait_for_selector(".heads .thumb")
    assert page.locator(".heads .thumb").count() == 6
    page.locator(".heads .thumb").last.click()
    assert page.locator(".heads .title").inner_text() == "Layer 1, head 3"
    page.locator(".heads .token").nth(2).hover()
    assert page.locator(".heads .token.query").count() == 1
    assert page.locator(".heads .token.later").count() == page.locator(".heads .token").count() - 3


def test_chat_shows_text_as_text(page, address):
    go(page, address, "chat")
    page.get_by_test_id("stChatInputTextArea").fill(f"{HURT} **b**")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-testid=stChatMessage] >> nth=1")
    settle(page)
    said = page.locator("[data-testid=stChatMessage]").first
    assert said.locator("img, strong").count() == 0
    assert f"{HURT} **b**" in said.inner_text()


def test_a_run_is_followed_while_it_writes(page, address, hostile_folder):
    """Nobody touches the page, and what the run writes appears."""
    run = hostile_folder / "talk"
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 11, "tokens_seen": 550, "train/loss": 3.5}\n')
    go(page, address, "")
    assert page.get_by_text("validation loss 0.500").count() == 1
    with open(run / "samples.md", "a") as file:
        file.write(f"## step 12, validation loss 0.400\n\n````text\nnew words {HURT}\n````\n\n")
    page.get_by_text("validation loss 0.400").wait_for()
    assert page.get_by_text(f"new words {HURT}").count() == 1


@pytest.mark.parametrize("path", ["/../../../etc/passwd", "/app/static/../../etc/passwd", "/media/..%2f..%2fetc%2fpasswd", "/config.toml"])
def test_no_file_is_served(address, path):
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=20) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert b"root:" not in answer and b"max_steps" not in answer
