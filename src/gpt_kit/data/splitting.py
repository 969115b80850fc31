"""Which text is set aside for validation.

By document: those whose hash falls below a threshold, so that the same text is set aside again tomorrow, in any order, and equal
documents never stand on both sides. For a source that was read whole, the threshold is the one that gets closest to the wanted
share of bytes; for a larger one it is the share itself. Contiguous: the end of the text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from gpt_kit.config import CorpusConfig
from gpt_kit.data.intake import Piece
from gpt_kit.errors import DataError

FEW_DOCUMENTS = 20  # below this, whole documents are too coarse to hit val_fraction
BUCKETS = 2**16


def is_by_document(pieces: Collection[Piece], config: CorpusConfig) -> bool:
    """What the setting `split` means for a source that begins with `pieces`."""
    return config.split == "document" or (config.split == "auto" and sum(piece.is_first for piece in pieces) >= FEW_DOCUMENTS)


class DocumentSplit:
    """Sets a document aside by the hash of its first piece."""

    def __init__(self, threshold: int, side: str = "train") -> None:
        """`threshold`: of 2**64. `side`: where the document stands that the first piece goes on with."""
        self.threshold, self.side = threshold, side

    def side_of(self, piece: Piece) -> str:
        """ "train" or "val"; to be asked for every piece in turn."""
        if piece.is_first:
            self.side = "val" if int.from_bytes(piece.digest, "big") < self.threshold else "train"
        return self.side


def share_threshold(val_fraction: float) -> int:
    """The threshold for documents that are not known yet."""
    return int(val_fraction * 2**64)


def exact_threshold(pieces: Collection[Piece], val_fraction: float) -> int:
    """The threshold that gets closest to `val_fraction` of the bytes of `pieces`, with a document at least on either side.

    Raises: DataError where all documents are one.
    """
    by_bucket = np.zeros(BUCKETS, dtype=np.int64)
    bucket = 0
    for piece in pieces:
        bucket = int.from_bytes(piece.digest[:2], "big") if piece.is_first else bucket
        by_bucket[bucket] += piece.num_bytes
    filled = np.flatnonzero(by_bucket)
    if val_fraction > 0 and len(filled) < 2:
        raise DataError(
            "the source is one document (or copies of one), so none can be set aside whole. Set the end of it aside: --split contiguous"
        )
    ends = np.cumsum(by_bucket[filled])
    number = int(np.abs(ends - val_fraction * ends[-1]).argmin()) + 1
    number = 0 if val_fraction == 0 else min(number, len(filled) - 1)
    return (int(filled[number - 1]) + 1) * (2**64 // BUCKETS) if number else 0


def contiguous_sides(pieces: Collection[Piece], val_fraction: float) -> Iterator[tuple[str, Piece]]:
    """(side, piece), where the last `val_fraction` of the characters is set aside; the piece at the border is cut."""
    border = int(sum(len(piece.text) for piece in pieces) * (1 - val_fraction))
    is_begun = False
    for piece in pieces:
        head, tail = piece.text[: max(0, border)], piece.text[max(0, border) :]
        border -= len(piece.text)
        if head:
            yield "train", _part(piece, head, is_first=piece.is_first, is_last=piece.is_last and not tail)
        if tail:
            yield "val", _part(piece, tail, is_first=not is_begun or piece.is_first, is_last=piece.is_last)
            is_begun = True


def _part(piece: Piece, text: str, *, is_first: bool, is_last: bool) -> Piece:
    return piece._replace(text=text, num_bytes=len(text.encode()), is_first=is_first, is_last=is_last)
