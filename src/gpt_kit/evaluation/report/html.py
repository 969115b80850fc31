"""HTML that is escaped by construction: a string becomes text, and only what this file made is markup.

tag("p", "a < b", tag("b", name), class_="note")     ->  <p class="note">a &lt; b<b>…</b></p>
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_VOID = ("circle", "img", "line", "meta")


class Html(str):
    """Finished markup."""

    __slots__ = ()


def text(value: object) -> Html:
    """Markup stays, anything else is escaped."""
    return value if isinstance(value, Html) else Html(escape(str(value)))


def tag(kind: str, /, *children: object, **attributes: object) -> Html:
    """One element. Attributes: `class_` is class, `stroke_width` is stroke-width; those that are None or False are left out."""
    written = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    ]
    opening = f"<{kind}{''.join(written)}"
    return Html(f"{opening}/>" if kind in _VOID else f"{opening}>{''.join(map(text, children))}</{kind}>")


def joined(parts: Iterable[object], between: object = "") -> Html:
    """Parts in a row."""
    return Html(text(between).join(map(text, parts)))


def table(head: Iterable[object], rows: Iterable[Iterable[object]], **attributes: object) -> Html:
    """A table whose cells are text, or finished <th> and <td>."""
    body = tag("tbody", *(tag("tr", *_cells("td", row)) for row in rows))
    return tag("div", tag("table", tag("thead", tag("tr", *_cells("th", head))), body, **attributes), class_="wide")


def _cells(kind: str, values: Iterable[object]) -> Iterable[Html]:
    return (value if isinstance(value, Html) and value.startswith(f"<{kind}") else tag(kind, value) for value in values)


def number(value: object, kind: str = "td") -> Html:
    """A cell that stands at the right, or its heading."""
    return tag(kind, value, class_="number")
