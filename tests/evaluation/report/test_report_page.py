"""The page needs nothing else, and text from files stays text."""

from __future__ import annotations

import html
import re
import shlex
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


def test_a_confusion_matrix_is_inside_the_page_and_nothing_else_passes_for_one(tmp_path: Path, make_run: MakeRun) -> None:
    for name, content in (("a", b"\x89PNG\r\n\x1a\n\x00\xff"), ("b", b"<svg onload=alert(1)>")):
        (make_run(name) / "confusion.png").write_bytes(content)
    page = Page(write_report([tmp_path / "runs" / "a", tmp_path / "runs" / "b"], tmp_path / "report").html)
    assert [found["src"] for found in page.all("img")] == ["data:image/png;base64,iVBORw0KGgoA/w=="]


@pytest.mark.parametrize(
    ("sections", "kind", "verb"),
    [
        ("[sft]\nbase = 'runs/base'\ndata = 'chats/x.jsonl'\n[lora]\nrank = 0", "chat tuning", "finetune sft"),
        ("[sft]\nbase = 'runs/base'\ndata = 'chats/x.jsonl'\n[lora]\nrank = 8", "chat tuning (LoRA)", "finetune sft"),
        ("[classify]\nbase = 'runs/base'\ndata = 'chats/x.jsonl'", "classification", "finetune classify"),
    ],
)
def test_a_fine_tuned_run_says_what_it_is_from_what_and_how_to_repeat_it(
    tmp_path: Path, make_run: MakeRun, sections: str, kind: str, verb: str
) -> None:
    run = make_run("it's", config=f"{sections}\n[training]\nmax_steps = {{steps}}\n")
    report = write_report([run], tmp_path / "report")
    page = Page(report.html)
    assert report.runs[0].kind == kind and "x.jsonl" in page.text and "base runs/base" in page.text
    command = html.unescape(re.findall("<pre>(.*?)</pre>", page.source, re.DOTALL)[0])
    assert shlex.split(command) == ["gpt-kit", *verb.split(), "--config", str(run / "config.toml"), "--out", f"{run}-again"]
    assert ("thin: training" in page.text.lower()) == (kind != "classification")  # whose loss in training is of something else too


@pytest.mark.parametrize("child", ["<b>", "a & b", '"', 3])
def test_a_string_is_escaped_and_an_element_is_not(child: object) -> None:
    assert "<b>" not in tag("p", child)
    assert tag("p", tag("b", child)).startswith("<p><b>")
    assert tag("p", title='"><x').count("<") == 2
