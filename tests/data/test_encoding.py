"""Units of text: bounded in memory, whatever the documents look like."""

from __future__ import annotations

from gpt_kit.data import encoding, prepare
from gpt_kit.data.intake import Piece


def test_tiny_documents_do_not_pile_up(monkeypatch) -> None:
    """A document of one byte takes some 200 bytes of memory; a million of them would be one unit, or a "small" source, otherwise."""
    monkeypatch.setattr(encoding, "UNIT_BYTES", 10_000)
    monkeypatch.setattr(prepare, "SMALL_BYTES", 10_000)
    pieces = [Piece("a", 1, b"", True, True)] * 1000
    units = list(encoding.gather(("train", piece) for piece in pieces))
    assert max(len(unit.pieces) for unit in units) <= 50 and sum(len(unit.pieces) for unit in units) == 1000
    head, is_whole = prepare._head(iter(pieces), lambda *_: None)
    assert len(head) <= 50 and not is_whole
