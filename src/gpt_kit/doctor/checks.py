"""A check looks at one thing and says whether it is sound, with the figure it found. A check that breaks down has failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from gpt_kit.errors import GPTKitError


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at."""

    what: str
    """What is looked at, in a few words."""
    look: Callable[[], tuple[bool, str]]
    """Whether it is sound, and the figure."""
    remedy: str
    """What to do where it is not."""
    opens: bool = False
    """Whether the checks after it look into what it opens: where it fails, there is nothing for them to look at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of a check."""

    ok: bool
    what: str
    figure: str
    remedy: str
    """Empty where it is sound."""


def examine(checks: Iterable[Check]) -> Iterator[Finding]:
    """One finding for each check, as soon as it is made; the last one where something does not open."""
    for check in checks:
        try:
            ok, figure = check.look()
        except Exception as error:
            ok, figure = False, str(error) if isinstance(error, GPTKitError) else f"{type(error).__name__}: {error}"
        yield Finding(ok, check.what, figure, "" if ok else check.remedy)
        if check.opens and not ok:
            return
