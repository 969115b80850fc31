"""Take the pictures of docs/studio.md: the studio in a headless Chromium, on finished demo runs.

gpt-kit quickstart --chat && gpt-kit studio runs --no-open-browser &   # then
python docs/studio_pictures.py [http://127.0.0.1:8501] [room …]
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

words = sys.argv[1:]
address = words.pop(0) if words and words[0].startswith("http") else "http://127.0.0.1:8501"
images = Path(__file__).parent / "images"


def settle(page: Page) -> None:
    page.wait_for_timeout(700)
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=120_000)
    page.wait_for_timeout(900)


def runs(page: Page) -> None:
    page.get_by_test_id("stSelectbox").click()
    page.get_by_role("option", name="quickstart", exact=True).click()


def chat(page: Page) -> None:
    page.get_by_text("Tell me about").first.click()
    settle(page)
    page.get_by_test_id("stChatInputTextArea").fill("What does random.shuffle do?")
    page.keyboard.press("Enter")
    settle(page)


def complete(page: Page) -> None:
    page.get_by_role("button", name="Write").click()
    settle(page)
    page.locator(".rival").nth(2).click()
    settle(page)


def inside(page: Page) -> None:
    """Attention, as it opens."""


def lens(page: Page) -> None:
    page.get_by_text("Logit lens").click()


def norms(page: Page) -> None:
    page.get_by_text("Norms", exact=True).click()


def compare(page: Page) -> None:
    page.get_by_role("button", name="Write both").click()


def tokens(page: Page) -> None:
    """As it opens."""


PICTURES = {
    "runs": (runs, "", 1330),
    "chat": (chat, "chat", 820),
    "complete": (complete, "complete", 860),
    "inside": (inside, "inside", 860),
    "lens": (lens, "inside", 920),
    "norms": (norms, "inside", 1060),
    "compare": (compare, "compare", 1180),
    "tokens": (tokens, "tokens", 900),
    "dark": (complete, "complete", 860),
}

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
    for name, (act, path, height) in PICTURES.items():
        if words and name not in words:
            continue
        page = browser.new_page(viewport={"width": 1440, "height": height}, color_scheme="dark" if name == "dark" else "light")
        page.set_default_timeout(60_000)
        page.goto(f"{address}/{path}")
        page.wait_for_selector("h1")
        settle(page)
        act(page)
        page.mouse.move(5, 5)
        settle(page)
        page.screenshot(path=images / f"studio-{name}.png")
        page.close()

    browser.close()
