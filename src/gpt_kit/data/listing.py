"""Which files a source names: itself, those of a known kind below a folder, or those that match a pattern; and what is passed over.

Hidden files and folders are left out by custom. Whatever else is not read is counted and told: nothing is dropped in silence.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn

from gpt_kit.config.suggest import did_you_mean
from gpt_kit.data import python_docs
from gpt_kit.data.compressed import COMPRESSIONS, without_compression
from gpt_kit.data.hub import PRESETS, HubText, hub_text
from gpt_kit.data.readers import KNOWN_SUFFIXES
from gpt_kit.data.shards import is_corpus
from gpt_kit.errors import DataError
from gpt_kit.files import MANIFEST

STDIN = "-"
_GLOB_CHARACTERS = re.compile(r"[*?\[]")
_KINDS_TOLD = 8


class Listing(NamedTuple):
    """The files of a source, and what else it has."""

    files: list[Path]
    """Sorted."""
    skipped: list[str]
    """Lines for people, one for files and one for folders; none where nothing was passed over."""


def hub_source(source: str) -> HubText | None:
    """What `source` names on the hub. A path that exists wins, and what looks like one (a known suffix, a folder) is one."""
    if exists(source) or _is_known(Path(source)) or (source not in PRESETS and exists(str(_path(source).parent))):
        return None
    return hub_text(source)


def list_files(source: str) -> list[Path]:
    """The files alone of `files_named`."""
    return files_named(source).files


def files_named(source: str) -> Listing:
    """What `source` names; no file for standard input, `python-docs` and what lies on the hub.

    Raises: DataError when it names nothing, or a folder without a file of a known kind.
    """
    path = _path(source)
    if source and exists(source):
        if path.is_char_device() or path.is_block_device() or path.is_socket():
            raise DataError(f"{source}: is a device, not a text. Give a file, a folder, a glob, or '-' for standard input")
        return _files_below(path) if path.is_dir() else Listing([path], [])
    if source in (STDIN, python_docs.NAME) or hub_source(source):
        return Listing([], [])
    if _GLOB_CHARACTERS.search(source):
        return _files_matching(source, path)
    raise _refusal(source, path)


def _files_matching(source: str, pattern: Path) -> Listing:
    # Not Path.glob: that would find hidden files too, and only below a fixed folder.
    matches = sorted({Path(match) for match in glob.glob(str(pattern), recursive=True)})  # noqa: PTH207
    files = [match for match in matches if not match.is_dir()]
    if not files:
        raise DataError(f"{source}: no file matches this pattern")
    folders = 0 if "**" in source else len(matches) - len(files)
    return Listing(files, [f"skipped {folders:,} folder{'s' * (folders > 1)} by that pattern; ** reads below them"] if folders else [])


def _files_below(folder: Path) -> Listing:
    """Its texts; what a prepared corpus among them consists of is none."""
    found: list[Path] = []
    files, folders = Counter[str](), Counter[str]()
    for parent, subfolders, names in os.walk(folder, onerror=_unreadable):
        if is_corpus(Path(parent)) and MANIFEST in names:
            subfolders.clear()
            folders["prepared corpus"] += 1
            continue
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        folders["link to a folder"] += sum(Path(parent, name).is_symlink() for name in subfolders)
        for path in (Path(parent, name) for name in names if not name.startswith(".")):
            if _is_known(path):
                found.append(path)
            else:
                files[without_compression(path).suffix.lower() or "without suffix"] += 1
    skipped = _told(files, folders)
    if not found:
        if any(is_corpus(entry) for entry in (folder, *folder.iterdir())):
            raise DataError(f"{folder}: holds prepared corpora and no text. Corpora are joined where nothing else lies beside them")
        kinds = f"{', '.join(KNOWN_SUFFIXES)}, each also as {' or '.join(COMPRESSIONS)}"
        raise DataError("; ".join([f"{folder}: no file in this folder is of a known kind ({kinds})", *skipped]))
    return Listing(sorted(found), skipped)


def _told(files: Mapping[str, int], folders: Mapping[str, int]) -> list[str]:
    told = (("file", " of kinds that are not read", files), ("folder", "", folders))
    return [f"skipped {_counted(counts, noun, what)}" for noun, what, counts in told if sum(counts.values())]


def _counted(counts: Mapping[str, int], noun: str, what: str) -> str:
    number = sum(counts.values())
    kinds = sorted((-count, kind) for kind, count in counts.items() if count)
    listed = [f"{kind} {-count:,}" for count, kind in kinds[:_KINDS_TOLD]]
    listed += [f"others {-sum(count for count, _ in kinds[_KINDS_TOLD:]):,}"] if len(kinds) > _KINDS_TOLD else []
    return f"{number:,} {noun}{'s' * (number > 1)}{what}: {', '.join(listed)}"


def _unreadable(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None


def _is_known(path: Path) -> bool:
    return without_compression(path).suffix.lower() in KNOWN_SUFFIXES


def _path(source: str) -> Path:
    try:
        return Path(source).expanduser()
    except RuntimeError:  # "~" and a user who is not there
        return Path(source)


def exists(source: str) -> bool:
    """Whether a file or folder has this name."""
    try:
        return _path(source).exists()
    except OSError:  # longer than any name can be
        return False


def _refusal(source: str, path: Path) -> DataError:
    """Why `source` is nothing that can be read, with the nearest name that is."""
    names = []
    with contextlib.suppress(OSError):
        names = [entry.name for entry in path.parent.iterdir()]
    if path.name == source:
        names += [python_docs.NAME, *PRESETS]
    return DataError(f"{source or repr(source)}: there is no such file or folder{did_you_mean(path.name, names)}")
