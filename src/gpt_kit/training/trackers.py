"""Dashboards of others: the figures of a run in TensorBoard, Weights & Biases, SwanLab or trackio.

Each is an Observer (metrics.py) that gets the records of `metrics.jsonl` under the same names. A package is imported only when it is
asked for. The run keeps its identity there in `trackers.json`, so that a resumed run goes on in the same curves. A dashboard that fails
is left out with one remark: no training ends because a server of somebody else is down.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt_kit.errors import GPTKitError, MissingExtraError
from gpt_kit.files import read_json, write_json
from gpt_kit.training.metrics import Record

IDENTITIES = "trackers.json"
ID_LENGTH = 21  # SwanLab takes exactly 21 letters and digits; Weights & Biases up to 64

Log = Callable[[Record, int], object]
Close = Callable[[], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackedRun:
    """What a dashboard is told of a run before the first figure."""

    folder: Path
    """The run's folder; its name is the run's name there."""
    project: str
    """The project it is filed under."""
    settings: dict[str, Any]
    """The run's settings, section by section."""
    at_step: int
    """Steps done so far: 0 for a fresh run."""
    id: str
    """The run's identity there."""


class Tracker:
    """An observer that passes figures on. After an error it makes one remark, and is silent from then on."""

    def __init__(self, name: str, log: Log, close: Close, remark: Callable[[str], None]) -> None:
        self.name, self._log, self._close, self._remark = name, log, close, remark
        self.failed = False

    def record(self, record: Record) -> None:
        """Every figure under its step."""
        self._guarded(lambda: self._log({name: value for name, value in record.items() if name != "step"}, record["step"]))

    def say(self, text: str) -> None:
        """Words are shown elsewhere."""

    def progress(self, step: int, activity: str) -> None:
        """Progress is shown elsewhere."""

    def close(self) -> None:
        """Send what is left, and close."""
        self._guarded(self._close)

    def _guarded(self, call: Callable[[], object]) -> None:
        if self.failed:
            return
        try:
            call()
        except Exception as error:  # whatever a server, a network or a client library comes up with
            self.failed = True
            self._remark(f"the tracker {self.name} failed and is left out from here on ({_one_line(error)}). metrics.jsonl has everything")


def open_tracker(
    name: str, folder: Path, project: str, settings: dict[str, Any], at_step: int, remark: Callable[[str], None]
) -> Tracker | None:
    """The dashboard `name`, ready for figures; a run that goes on continues its curves there. `remark` is told of later failures.

    Raises: MissingExtraError without its package; GPTKitError when a fresh run cannot be opened there. A run that goes on after
    `at_step` goes on without it: the answer is None, after a remark.
    """
    identities = read_json(folder / IDENTITIES) if (folder / IDENTITIES).exists() else {}
    run_id = identities.get(name) or uuid.uuid4().hex[:ID_LENGTH]
    run = TrackedRun(folder=folder, project=project, settings=settings, at_step=at_step, id=run_id)
    try:
        log, close = OPENERS[name](run)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise MissingExtraError(name, name, f"--logging.trackers {name}") from None
        if at_step == 0:
            raise GPTKitError(
                f"the tracker {name} cannot be opened ({_one_line(error)}). {HINTS[name]}, or leave it out of --logging.trackers"
            ) from error
        remark(f"the tracker {name} cannot be opened, and is left out ({_one_line(error)}). metrics.jsonl has everything")
        return None
    write_json(folder / IDENTITIES, {**identities, name: run_id})
    return Tracker(name, log, close, remark)


def _open_tensorboard(run: TrackedRun) -> tuple[Log, Close]:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.at_step + 1)

    def log(figures: Record, step: int) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)

    return log, writer.close


def _open_wandb(run: TrackedRun) -> tuple[Log, Close]:
    import wandb

    opened = wandb.init(
        project=run.project,
        name=run.folder.name,
        id=run.id,
        resume="allow",
        config=run.settings,
        dir=str(run.folder),
        settings=wandb.Settings(console="off"),  # it would copy every redrawing of the live line
    )
    return lambda figures, step: opened.log(figures, step=step), opened.finish


def _open_swanlab(run: TrackedRun) -> tuple[Log, Close]:
    import swanlab

    swanlab.init(
        project=run.project,
        experiment_name=run.folder.name,
        id=run.id,
        resume="allow",
        config=run.settings,
        logdir=str(run.folder / "swanlab"),
    )
    return lambda figures, step: swanlab.log(figures, step=step), swanlab.finish


def _open_trackio(run: TrackedRun) -> tuple[Log, Close]:
    import trackio

    opened = trackio.init(project=run.project, name=f"{run.folder.name}-{run.id[:4]}", resume="allow", config=run.settings)
    return lambda figures, step: opened.log(figures, step=step), opened.finish


OPENERS: dict[str, Callable[[TrackedRun], tuple[Log, Close]]] = {
    "tensorboard": _open_tensorboard,
    "wandb": _open_wandb,
    "swanlab": _open_swanlab,
    "trackio": _open_trackio,
}
HINTS = {
    "tensorboard": "Is the folder writable",
    "wandb": "Log in (wandb login), or set WANDB_MODE=offline",
    "swanlab": "Log in (swanlab login), or set SWANLAB_MODE=offline",
    "trackio": "It writes below TRACKIO_DIR: is that writable",
}


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
