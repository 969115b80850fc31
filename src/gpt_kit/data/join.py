"""Several corpora -> one: how a text that many machines prepared in parts becomes one corpus.

The shards are taken over as they are (as hard links where the disk has them) and numbered anew. Documents of a source over 32 MB
are set aside by their own hash, so the parts have made the same choice that one machine would have made.
"""

from __future__ import annotations

import glob
import os
import shutil
from pathlib import Path
from typing import Any

from gpt_kit.data.corpus import Corpus, is_corpus, open_corpus
from gpt_kit.errors import DataError

_COUNTS = ("tokens", "documents", "bytes", "characters")


def corpora_in(source: str) -> list[Path]:
    """The corpora that `source` names: a glob of them, or a folder of them; sorted, and empty where it names none."""
    path = Path(source).expanduser()
    try:
        found = [entry for entry in path.iterdir() if not entry.name.startswith(".")] if path.is_dir() else []
    except OSError:
        return []
    if not path.exists():
        found = [Path(match) for match in glob.glob(str(path))]  # noqa: PTH207
    corpora = sorted(entry for entry in found if is_corpus(entry))
    return corpora if len(corpora) == len([entry for entry in found if entry.is_dir()]) else []


def link_shards(corpora: list[Corpus], folder: Path) -> dict[str, dict[str, Any]]:
    """Bring the shards of `corpora` into `folder`. Gives the counts of either side.

    Raises: DataError where they were cut by different tokenizers.
    """
    first = corpora[0]
    for corpus in corpora:
        if corpus.tokenizer.fingerprint != first.tokenizer.fingerprint:
            raise DataError(
                f"{corpus.folder}: cut by tokenizer {corpus.tokenizer!r}, but {first.folder} by {first.tokenizer!r}. "
                "Prepare the parts with one tokenizer: a trained one is a folder that --tokenizer takes"
            )
    written = {}
    for side in ("train", "val"):
        shards = [corpus.folder / name for corpus in corpora for name in corpus.info[side]["shards"]]
        for number, shard in enumerate(shards):
            place = folder / f"{side}-{number:05d}.tokens"
            try:
                os.link(shard, place)
            except OSError:  # another disk, or one without hard links
                shutil.copyfile(shard, place)
        written[side] = {name: sum(corpus.info[side][name] for corpus in corpora) for name in _COUNTS}
    return written


def opened(folders: list[Path]) -> list[Corpus]:
    """The corpora, every shard compared with its manifest."""
    return [open_corpus(folder) for folder in folders]
