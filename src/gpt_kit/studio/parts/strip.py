"""A text on the page, token by token, coloured; a click shows what could have stood there instead. The drawing is strip.js."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from gpt_kit.studio.parts.component import component
from gpt_kit.studio.scoring import ScoredToken

HINT = "Choose a token."


@dataclass(frozen=True, slots=True)
class Taken:
    """A rival that was chosen: the token with id `token`, to stand at position `at`."""

    at: int
    token: int


def probability_strip(
    tokens: Sequence[ScoredToken], *, key: str, num_prompt: int, taken: Collection[int] = (), can_take: bool = False, below: bool = False
) -> Taken | None:
    """Draw scored tokens, the first `num_prompt` underlined. Gives the rival that was just taken, where `can_take`."""
    rows: list[dict[str, Any]] = [
        {
            "id": token.token,
            "text": token.text,
            "p": token.probability,
            "kind": "taken" if i in taken else "prompt" if i < num_prompt else "written",
            "rivals": [{"id": rival.token, "text": rival.text, "p": rival.probability} for rival in token.rivals],
        }
        for i, token in enumerate(tokens)
    ]
    written = [i for i in range(max(num_prompt, 1), len(tokens)) if i not in taken] or list(range(1, len(tokens)))
    surprising = min(written, key=lambda i: tokens[i].probability or 0, default=None)
    selected = max(taken) if taken else surprising
    data = {"mode": "probability", "tokens": rows, "can_take": can_take, "hint": HINT, "selected": selected}
    return _mounted(data, key, below)


def cut_strip(pieces: Sequence[tuple[int, str, str]], *, key: str) -> None:
    """Draw how a text is cut: (id, text, note) for each token."""
    rows: list[dict[str, Any]] = [
        {"id": i, "text": text, "p": None, "kind": "written", "rivals": [], "note": note} for i, text, note in pieces
    ]
    _mounted({"mode": "cut", "tokens": rows, "can_take": False, "hint": HINT, "selected": 0 if rows else None}, key, below=False)


def _mounted(data: dict[str, Any], key: str, below: bool) -> Taken | None:
    version = hashlib.sha256(json.dumps(data).encode()).hexdigest()[:16]  # a new text forgets which token was chosen
    draw = component("strip")
    result = draw(key=key, data={**data, "version": version, "panel": "below" if below else "side"}, on_take_change=lambda: None)
    chosen = getattr(result, "take", None)
    return Taken(int(chosen["at"]), int(chosen["token"])) if chosen else None
