"""'did you mean …' for names that were mistyped."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

CUTOFF = 0.65  # share of letters in common: two letters that changed places in a word of four leave 0.75; 'sample' and 'compile' share 0.62


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` for the closest known name, or an empty string when none is close. Capitals do not count."""
    names = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(got.casefold(), names, n=1, cutoff=CUTOFF)
    return f" (did you mean {names[close[0]]!r}?)" if close else ""
