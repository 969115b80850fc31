"""Documents on their way in: damage by policy, empty ones left out, all counted, each with its digest.

Nothing is dropped in silence: documents read = passed on + empty + left out as damaged. The state is small and plain, so that
a later process can go on where this one stopped.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from gpt_kit.config import CorpusConfig
from gpt_kit.data.damage import Damage
from gpt_kit.data.pieces import Document, Position
from gpt_kit.data.sources import Source, no_text

DIGEST_BYTES = 8
_OBJECT_BYTES = 200
TOLD = 5
"""Damaged places that are told one by one."""
_TALLIES = ("normalised", "skipped", "skipped_lines", "repaired")
NOTHING_LEFT_OUT: dict[str, Any] = {"documents": 0, "empty": 0, **{name: {} for name in _TALLIES}}
"""The report on a source without text."""


class Piece(NamedTuple):
    """A document, or a piece of one."""

    text: str
    num_bytes: int
    """Of the text in UTF-8."""
    digest: bytes
    """Of the document up to the end of this piece, with the seed of the split."""
    is_first: bool
    is_last: bool

    @property
    def memory_bytes(self) -> int:
        """What it takes while it waits, about: of tiny documents there are many, and their text is the least of it."""
        return self.num_bytes + _OBJECT_BYTES


class Intake:
    """The pieces of a source, once; `report()` and `state()` tell what was read so far."""

    def __init__(self, source: Source, config: CorpusConfig, note: Callable[[str], None], state: dict[str, Any] | None = None) -> None:
        self._source, self._config, self._note = source, config, note
        state = state or {}
        self._file, self._position = state.get("file", 0), Position(**state.get("position", {}))
        self._open_digest = bytes.fromhex(state.get("open_digest", ""))
        self.documents, self.empty = state.get("documents", 0), state.get("empty", 0)
        self._tallies: dict[str, Counter[str]] = {name: Counter(state.get(name, {})) for name in _TALLIES}
        self.num_bytes = state.get("bytes", 0)
        self._can_go_on_here = True
        self._seed = f"{config.split_seed} ".encode()

    def __iter__(self) -> Iterator[Piece]:
        """Raises: Damage with on_damaged 'error'; DataError when the source holds no text at all."""
        found_any = self.documents > self.empty
        read = self._source.read(
            replace=self._config.on_damaged == "replace",
            normalised=self._tallies["normalised"],
            file=self._file,
            start=self._position,
        )
        for number, found in read:
            if isinstance(found, Damage):
                self._count_damage(found)
                continue
            self.documents += found.is_first
            self._file, self._can_go_on_here = number, found.end is not None
            self._position = found.end or self._position
            if found.is_first and found.is_last and (not found.text or found.text.isspace()):
                self.empty += 1
                continue
            found_any = True
            yield self._piece(found)
        if not found_any:
            raise no_text(self._source.name)

    def report(self) -> dict[str, Any]:
        """What was read and what became of it, for corpus.json."""
        skipped = sum(self._tallies["skipped"].values())
        told = {name: dict(sorted(tally.items())) for name, tally in self._tallies.items()}
        return {"documents": self.documents + skipped, "empty": self.empty, **told}

    def state(self) -> dict[str, Any] | None:
        """Where the last piece ended, and the counts up to there; None inside a record, where reading cannot begin."""
        if not self._can_go_on_here:
            return None
        return {
            "file": self._file,
            "position": self._position._asdict(),
            "open_digest": self._open_digest.hex(),
            "documents": self.documents,
            "empty": self.empty,
            "bytes": self.num_bytes,
            **{name: dict(tally) for name, tally in self._tallies.items()},
        }

    def expected_bytes(self) -> int:
        """How many bytes of text the source will have given at its end, by what it has given so far; 0: not known."""
        share = self._source.share_read(self._file, self._position)
        return round(self.num_bytes / share) if share else 0

    def _piece(self, found: Document) -> Piece:
        data = found.text.encode()
        digest = hashlib.sha256((self._seed if found.is_first else self._open_digest) + data).digest()[:DIGEST_BYTES]
        self._open_digest = digest
        self.num_bytes += len(data)
        return Piece(found.text, len(data), digest, found.is_first, found.is_last)

    def _count_damage(self, damage: Damage) -> None:
        if self._config.on_damaged == "error":
            raise damage
        kept_record = damage.repaired
        name = "repaired" if kept_record else "skipped_lines" if damage.in_document else "skipped"
        told = sum(sum(self._tallies[tally].values()) for tally in _TALLIES[1:])
        self._tallies[name][damage.kind] += 1
        if told < TOLD:
            done = "repaired" if damage.repaired else "left out"
            self._note(f"{done}: {damage}")
        elif told == TOLD:
            self._note("more damage is counted and not told one by one")
