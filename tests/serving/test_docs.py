"""What docs/serving.md says is so: its code runs, its limits are those of the program."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from gpt_kit.serving.limits import ServerLimits
from gpt_kit.serving.requests import ChatBody, CompletionBody

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


def test_its_code_runs(served: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace("http://127.0.0.1:8000", served.url), names)
    names["client"].close()
    assert served.complete("A list is", max_tokens=20)["choices"][0]["text"] in capsys.readouterr().out


def test_its_limits_are_all_and_right() -> None:
    told = dict(re.findall(r"^\| `--([a-z-]+)` \| (\S+) \|", PAGE, re.MULTILINE))
    assert told == {field.name.replace("_", "-"): str(field.default) for field in dataclasses.fields(ServerLimits)}


def test_it_names_every_setting() -> None:
    names = {*CompletionBody.model_fields, *ChatBody.model_fields} - {"prompt", "messages", "stream_options"}
    assert all(f"`{name}`" in PAGE for name in names), names
