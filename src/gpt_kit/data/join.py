"""Several corpora -> one: how a text that many machines prepared in parts becomes one corpus.

The shards are taken over as they are (as hard links where the disk has them) and numbered anew. Documents of a source over SMALL_BYTES
(see prepare.py) are set aside by their own hash, so the parts have made the same choice that one machine would have made.
"""

from __future__ import annotations

import glob
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from gpt_kit.config import CorpusConfig
from gpt_kit.data.corpus import Corpus, corpus_settings, open_corpus
from gpt_kit.data.shards import is_corpus, shard_name
from gpt_kit.errors import DataError
from gpt_kit.files import INCOMPLETE

_COUNTS = ("tokens", "documents", "bytes", "characters")


def corpora_in(source: str) -> list[Path]:
    """The corpora that `source` names: a glob of them, or a folder of them; sorted, and empty where it names anything else too.

    Raises: DataError where one of them is unfinished.
    """
    path = Path(source).expanduser()
    try:
        pattern = Path(glob.escape(str(path)), "*") if path.exists() else path
    except OSError:  # longer than any name can be
        return []
    found = [Path(match) for match in glob.glob(str(pattern))]  # noqa: PTH207
    if not found or not all(map(is_corpus, found)):
        return []
    unfinished = glob.glob(str(pattern.with_name(f"{INCOMPLETE}{pattern.name}")))  # noqa: PTH207
    if unfinished:
        raise DataError(
            f"{min(unfinished)}: this part is not finished, and would be missing. Finish its preparation, or delete that folder"
        )
    return sorted(found)


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
            place = folder / shard_name(side, number)
            try:
                os.link(shard, place)
            except OSError:  # another disk, or one without hard links
                shutil.copyfile(shard, place)
        written[side] = {name: sum(corpus.info[side][name] for corpus in corpora) for name in _COUNTS}
    return written


def common_settings(source: str, corpora: list[Corpus], config: CorpusConfig) -> dict[str, Any]:
    """The settings that made the parts, null where they differ. Raises: DataError where `config` asks for what none of them is."""
    default = corpus_settings(CorpusConfig())
    had = {name: [corpus.info["settings"].get(name, value) for corpus in corpora] for name, value in default.items()}
    idle = [name for name, value in corpus_settings(config).items() if value not in (default[name], *had[name])]
    if idle:
        options = ", ".join("--" + name.replace("_", "-") for name in idle)
        raise DataError(f"{source}: corpora are joined as they are, so {options} would change nothing. Leave it out")
    return {name: values[0] if all(value == values[0] for value in values) else None for name, values in had.items()}


def summed_reports(corpora: list[Corpus]) -> dict[str, Any]:
    """What was read for all parts and what became of it."""
    whole: dict[str, Any] = {"documents": 0, "empty": 0}
    for report in (corpus.info["read"] for corpus in corpora):
        for name, value in report.items():
            whole[name] = dict(Counter(whole.get(name, {})) + Counter(value)) if isinstance(value, dict) else whole[name] + value
    return whole


def opened(folders: list[Path]) -> list[Corpus]:
    """The corpora, every shard compared with its manifest."""
    return [open_corpus(folder) for folder in folders]
