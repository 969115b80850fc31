"""Dashboards of others: what they are told, that a resumed run goes on in the same curves, and that none of them can end a run.

The packages are stood in for by modules with the same calls.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from gpt_kit.errors import GPTKitError, MissingExtraError
from gpt_kit.training import Tracker, open_tracker

RECORDS = [{"step": step, "tokens_seen": 10 * step, "train/loss": 5.0 / step} for step in range(1, 9)]
SETTINGS = {"model": {"n_layer": 2}, "training": {"learning_rate": 1e-3}}
FAKED = ("wandb", "swanlab", "trackio")


class Service:
    """What a dashboard was told."""

    def __init__(self) -> None:
        self.opened: list[dict[str, Any]] = []
        self.logged: list[tuple[dict[str, Any], int]] = []
        self.closed = 0
        self.broken: Exception | None = None

    def init(self, **words: Any) -> SimpleNamespace:
        self._work()
        self.opened.append(words)
        return SimpleNamespace(log=self.log, finish=self.finish)

    def log(self, figures: dict[str, Any], step: int) -> None:
        self._work()
        self.logged.append((figures, step))

    def finish(self) -> None:
        self._work()
        self.closed += 1

    def _work(self) -> None:
        if self.broken is not None:
            raise self.broken


@pytest.fixture(params=FAKED)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def service(name: str, monkeypatch: pytest.MonkeyPatch) -> Service:
    fake = Service()
    module = ModuleType(name)
    module.init, module.log, module.finish = fake.init, fake.log, fake.finish
    module.Settings = lambda **words: words
    monkeypatch.setitem(sys.modules, name, module)
    return fake


def opened(name: str, folder: Path, remarks: list[str], at_step: int = 0) -> Tracker | None:
    folder.mkdir(exist_ok=True)
    return open_tracker(name, folder, "books", SETTINGS, at_step, remarks.append)


def test_a_run_tells_its_name_project_settings_and_every_figure_under_its_step(name: str, service: Service, tmp_path: Path) -> None:
    remarks: list[str] = []
    tracker = opened(name, tmp_path / "story", remarks)
    for record in RECORDS:
        tracker.record(record)
    tracker.say("not shown")
    tracker.progress(1, "not shown")
    tracker.close()
    (words,) = service.opened
    assert words["project"] == "books" and words["config"] == SETTINGS
    assert words.get("name", words.get("experiment_name")).startswith("story")
    assert service.logged == [({"tokens_seen": 10 * step, "train/loss": 5.0 / step}, step) for step in range(1, 9)]
    assert service.closed == 1 and remarks == []


def test_a_resumed_run_goes_on_in_the_same_curves_and_a_new_one_does_not(name: str, service: Service, tmp_path: Path) -> None:
    for folder, at_step in (("story", 0), ("story", 5), ("other", 0)):
        opened(name, tmp_path / folder, [], at_step).close()
    identities = [words.get("id") or words["name"] for words in service.opened]
    assert identities[0] == identities[1] != identities[2]
    assert [words["resume"] for words in service.opened] == ["allow"] * 3
    kept = json.loads((tmp_path / "story" / "trackers.json").read_text())
    assert list(kept) == [name] and len(kept[name]) == 21 and kept[name].isalnum() and kept[name].islower() | kept[name].isdigit()


def test_a_dashboard_that_fails_while_running_is_left_out_with_one_remark(name: str, service: Service, tmp_path: Path) -> None:
    remarks: list[str] = []
    tracker = opened(name, tmp_path / "story", remarks)
    tracker.record(RECORDS[0])
    service.broken = ConnectionError("the server\nis gone")
    tracker.record(RECORDS[1])
    service.broken = None
    tracker.record(RECORDS[2])
    tracker.close()
    assert len(service.logged) == 1 and service.closed == 0
    (remark,) = remarks
    assert name in remark and "ConnectionError: the server is gone" in remark and "metrics.jsonl" in remark


def test_one_that_fails_at_the_very_end_does_not_fail_the_run(name: str, service: Service, tmp_path: Path) -> None:
    remarks: list[str] = []
    tracker = opened(name, tmp_path / "story", remarks)
    service.broken = TimeoutError("no answer")
    tracker.close()
    assert len(remarks) == 1


def test_a_fresh_run_that_cannot_be_opened_there_is_told_at_once_and_a_resumed_one_goes_on(
    name: str, service: Service, tmp_path: Path
) -> None:
    """Before the first step an error costs nothing; a run that comes back by itself in the night has nobody to correct it."""
    service.broken = RuntimeError("not logged in")
    with pytest.raises(GPTKitError, match=f"{name} cannot be opened.*not logged in.*leave it out") as caught:
        opened(name, tmp_path / "story", [])
    assert "OFFLINE" in str(caught.value).upper() or "TRACKIO_DIR" in str(caught.value)
    remarks: list[str] = []
    assert opened(name, tmp_path / "story", remarks, at_step=7) is None
    assert len(remarks) == 1 and "not logged in" in remarks[0]
    assert not (tmp_path / "story" / "trackers.json").exists()


@pytest.mark.parametrize("name", [*FAKED, "tensorboard"])
def test_a_package_that_is_missing_is_named_with_its_extra(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # what Python itself takes for "not there"
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(MissingExtraError, match=rf"--logging.trackers {name} needs .*gpt-kit\[{name}\]"):
        opened(name, tmp_path / "story", [])


def test_offline_modes_are_the_packages_own_to_read(name: str, service: Service, tmp_path: Path) -> None:
    """WANDB_MODE and SWANLAB_MODE are read where no mode is given, so none is given."""
    opened(name, tmp_path / "story", [])
    assert "mode" not in service.opened[0]


def test_tensorboard_gets_every_figure_under_its_step(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    tracker = opened("tensorboard", tmp_path / "story", [])
    for record in RECORDS:
        tracker.record(record)
    tracker.close()
    events = accumulator.EventAccumulator(str(tmp_path / "story" / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [
        (record["step"], pytest.approx(record["train/loss"])) for record in RECORDS
    ]
    assert "step" not in events.Tags()["scalars"]
