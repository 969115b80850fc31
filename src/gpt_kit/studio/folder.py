"""The runs folder: what is in it, and the promise that nothing outside it is read.

Names come from the folder's listing alone, never from the page. A link that leads out of the folder is left out, be it a run, a checkpoint
or one of its files, and so is an adapter whose base lies elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt_kit.errors import CheckpointError, DataError, InputError
from gpt_kit.files import read_json
from gpt_kit.locate import ADAPTER_CONFIG, best_checkpoint, run_of, step_folders

DEEPEST = 3
"""Levels below the runs folder at which a run is still found: runs/sweep/depth/NAME."""
MOST_FOLDERS = 2000
"""Folders that a search looks into."""


@dataclass(frozen=True, slots=True)
class Place:
    """A run, or the folder of a model."""

    name: str
    """Its path from the runs folder."""
    folder: Path
    is_run: bool


class RunsFolder:
    """The runs and models below `root`; a root that is itself a run holds that one."""

    def __init__(self, root: str | Path) -> None:
        """Raises: InputError where there is no such folder."""
        self.root = Path(root).expanduser().resolve()
        if not self.root.is_dir():
            raise InputError(f"{root}: there is no such folder. Give the one that holds your runs, or make a first one: gpt-kit quickstart")

    def checked(self, path: Path) -> Path:
        """`path`, if it lies in the runs folder when every link is followed. Raises: InputError otherwise."""
        if not path.resolve().is_relative_to(self.root):
            raise InputError(f"{path} leads out of {self.root}, and the studio reads nothing else. Copy it there")
        return path

    def places(self) -> list[Place]:
        """Runs and models, by name."""
        if found := self._place(self.root):
            return [found]
        return sorted(self._search(), key=lambda place: place.name)

    def runs(self) -> list[Place]:
        """Runs alone, the one that wrote last first."""
        runs = [place for place in self.places() if place.is_run]
        return sorted(runs, key=lambda place: last_change(place.folder), reverse=True)

    def models(self) -> dict[str, Path]:
        """Everything that can be loaded, by what it is called: a run's best checkpoint by the run's name, others with their step."""
        found: dict[str, Path] = {}
        for place in self.places():
            if not place.is_run:
                found[place.name] = place.folder
                continue
            try:
                best = best_checkpoint(place.folder)
            except CheckpointError:
                continue  # it has only begun
            found[place.name] = best
            others = [folder for folder in step_folders(place.folder) if folder != best]
            found |= {f"{place.name} · step {int(folder.name.removeprefix('step-')):,}": folder for folder in others}
        return {name: folder for name, folder in found.items() if self._is_inside(folder)}

    def check_model(self, folder: Path) -> None:
        """Raises: InputError where a file of the model in `folder`, or of the base it is added to, lies outside the runs folder."""
        for file in (folder, *folder.iterdir()):
            self.checked(file)
        if (folder / ADAPTER_CONFIG).is_file():
            base = self._base_of(folder)
            for file in (base, *base.iterdir()):
                self.checked(file)

    def _base_of(self, folder: Path) -> Path:
        """Where `locate.base_of_adapter` looks, without the hub."""
        own = folder.parent.parent / "base"
        if own.is_dir():
            return own
        try:
            content = read_json(folder / ADAPTER_CONFIG)
        except DataError as error:
            raise CheckpointError(str(error)) from None
        name = str(content.get("base_model_name_or_path")) if isinstance(content, dict) else ""
        base = folder / name if (folder / name).is_dir() else Path(name).expanduser()
        if not base.is_dir():
            raise InputError(f"{folder}: the base of this adapter is not in {self.root}. Merge the two: gpt-kit merge {folder} FOLDER")
        base = self.checked(base)
        return best_checkpoint(run) if (run := run_of(base)) else base

    def _is_inside(self, folder: Path) -> bool:
        try:
            self.check_model(folder)
        except (InputError, OSError):
            return False
        return True

    def _search(self) -> Iterator[Place]:
        """Level by level, so that the nearest are found even where there are too many."""
        level, looked = [self.root], 0
        for _ in range(DEEPEST):
            below = []
            for parent in level:
                for folder in _folders_in(parent):
                    looked += 1
                    if looked > MOST_FOLDERS or not folder.resolve().is_relative_to(self.root):
                        continue
                    if place := self._place(folder):
                        yield place
                    else:
                        below.append(folder)
            level = below

    def _place(self, folder: Path) -> Place | None:
        name = folder.relative_to(self.root).as_posix() if folder != self.root else folder.name
        if run_of(folder) == folder:
            return Place(name, folder, is_run=True)
        is_model = any((folder / file).is_file() for file in ("config.json", "hparams.json", "params_shapes.json", ADAPTER_CONFIG))
        return Place(name, folder, is_run=False) if is_model else None


def last_change(run: Path) -> float:
    """When the run last wrote a figure, in seconds since 1970; 0 where it has none."""
    try:
        return (run / "metrics.jsonl").stat().st_mtime
    except OSError:
        return 0.0


def _folders_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []
