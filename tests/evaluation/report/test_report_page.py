"""The page needs nothing else, and text from files stays text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from report_runs import CONFIG, MakeRun, Page, losses, score

from gpt_kit.evaluation.report import write_report
from gpt_kit.evaluation.report.html import tag

EVIL = "<script>alert(1)<|endoftext|>\"'><img src=x onerror=alert(2)> &amp; $x^{$ `|` [a](javascript:alert(3))"


@pytest.fixture
def evil_page(tmp_path: Path, make_run: MakeRun) -> tuple[Page, str]:
    """A report in which everything that anybody can name is called EVIL."""
    name = EVIL.replace("/", "")
    config = CONFIG.replace("stories.txt", "{source}").replace("{source}", EVIL.replace("\\", "").replace('"', '\\"').replace("{", "{{"))
    run = make_run(
        name, config=config, scores=[score(task=EVIL, metric=EVIL, data=EVIL, command=EVIL, model=EVIL)], records=[*losses(4), {EVIL: 1}]
    )
    (run / "samples.md").write_text(f"## step 8, x\n\n````text\n{EVIL}\n</pre>{EVIL}\n````\n", encoding="utf-8")
    (run / "environment.json").write_text(f'{{"torch": "<b>{2}</b>", "accelerators": ["<i>"]}}', encoding="utf-8")
    report = write_report([run, tmp_path / f"none-{name}"], tmp_path / "report", title=EVIL)
    return Page(report.html), report.markdown.read_text(encoding="utf-8")


def test_nothing_in_a_run_becomes_markup(evil_page: tuple[Page, str], tmp_path: Path, make_run: MakeRun) -> None:
    page, markdown = evil_page
    plain = Page(write_report([make_run("plain", scores=[score()])], tmp_path / "plain").html)
    ours = {name for name, _ in plain.elements} | {"aside", "strong", "ul", "li"}
    assert {name for name, _ in page.elements} <= ours and not {"script", "img", "b", "i"} & ours
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    for words in (EVIL, f"none-{EVIL}".replace("/", ""), f"</pre>{EVIL}", "<b>2</b>"):
        assert " ".join(words.split()) in page.text  # it is there, and it is text
    tables = "\n".join(line for line in markdown.splitlines() if not line.startswith("    "))  # four spaces: code, as it is
    assert not re.search(r"<|(?<!\\)\[a|(?<!\\)`|(?<!\\)\$", tables)


def test_the_page_loads_nothing(evil_page: tuple[Page, str]) -> None:
    """No address but those of its own parts; none in its style; no script."""
    page, _ = evil_page
    for name, attributes in page.elements:
        assert name not in ("script", "link", "img", "iframe", "object", "embed", "base")
        for key in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert attributes.get(key, "#").startswith("#"), (name, attributes)
        assert not re.search(r"url\((?!#)", attributes.get("style", ""))
    (style,) = re.findall(r"<style>(.*?)</style>", page.source, re.DOTALL)[:1]
    assert "url(" not in style and "@import" not in style and "http" not in style


def test_every_element_is_closed_where_it_should_be(evil_page: tuple[Page, str]) -> None:
    assert evil_page[0].open == []  # and `Page` refuses a closing tag of another element


def test_every_colour_of_the_page_is_defined_for_light_and_for_dark(evil_page: tuple[Page, str]) -> None:
    source = evil_page[0].source
    light, dark = re.findall(r":root \{(.*?)\}", source, re.DOTALL)
    used = set(re.findall(r"var\((--[\w-]+)\)", source)) - {"--c"}
    defined = [set(re.findall(r"(--[\w-]+):", scheme)) for scheme in (light, dark)]
    assert used <= defined[0] == defined[1]
    assert not re.search(r"#0a0[bc]", source), "a colour's stand-in was left in a drawing"


def test_links_within_the_page_lead_somewhere(tmp_path: Path, make_run: MakeRun) -> None:
    page = Page(write_report([make_run("a"), make_run("b")], tmp_path / "report").html)
    names = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    links = [found["href"].removeprefix("#") for found in page.all("a")]
    assert links == ["run-1", "run-2"] and set(links) <= names


@pytest.mark.parametrize("child", ["<b>", "a & b", '"', 3])
def test_a_string_is_escaped_and_an_element_is_not(child: object) -> None:
    assert "<b>" not in tag("p", child)
    assert tag("p", tag("b", child)).startswith("<p><b>")
    assert tag("p", title='"><x').count("<") == 2
