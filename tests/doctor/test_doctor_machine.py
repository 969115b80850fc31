"""On a sound machine every check passes; each thing taken away is missed by the check that is meant for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gpt_kit.doctor import examine, machine_checks
from gpt_kit.doctor import machine as module


def failed(folder: Path) -> dict[str, str]:
    return {finding.what: finding.remedy for finding in examine(machine_checks(folder)) if not finding.ok}


def raising(error: Exception) -> Callable[..., None]:
    def call(*_: object) -> None:
        raise error

    return call


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timing products beside other tests says little about the machine."""
    monkeypatch.setattr(module, "_seconds_of_product", lambda _device, _dtype: 0.01)


def test_this_machine_passes_and_nothing_is_left_behind(tmp_path: Path) -> None:
    assert failed(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "broken", "what", "remedy"),
    [
        ("write_atomically", raising(PermissionError(13, "no")), "write, flush, rename", "--out"),
        ("write_atomically", lambda path, content: path.write_bytes(content[:-1]), "write, flush, rename", "--out"),
        ("free_memory", lambda _: 5 * 10**8, "free memory", "smaller model"),
        ("choose_device", raising(RuntimeError("driver too old")), "products on the device", "--training.device cpu"),
    ],
)
def test_what_is_broken_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, broken: object, what: str, remedy: str
) -> None:
    monkeypatch.setattr(module, name, broken)
    assert remedy in failed(tmp_path)[what]


def test_a_full_disk_an_old_torch_and_too_many_threads_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    monkeypatch.setattr(torch, "__version__", "2.4.1+cpu")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert failed(tmp_path).keys() == {"free disk", "write, flush, rename", "torch", "threads"}


def test_bf16_that_is_slower_than_float32_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_seconds_of_product", lambda _, dtype: 0.02 if dtype is torch.bfloat16 else 0.01)
    monkeypatch.setattr(module, "choose_precision", lambda *_: SimpleNamespace(name="bf16", autocast_dtype=torch.bfloat16))
    assert "float32" in failed(tmp_path)["number format"]


def test_extras_are_listed_and_never_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "find_spec", lambda package: package == "pyarrow" or None)
    (finding,) = (finding for finding in examine(machine_checks(tmp_path)) if finding.what == "extras")
    assert finding.ok and finding.figure.startswith("parquet; not installed: hub, zstd")


def test_kernels_that_cannot_be_made_are_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As where there is no compiler, or temporary files may not be run."""
    monkeypatch.setattr(module, "int8_kernel", lambda _: None)
    monkeypatch.setattr(module, "float32_kernel", lambda: None)
    monkeypatch.setattr(module, "is_fast", lambda _: False)
    for has_instructions, needed in ((True, "with a C compiler, and the right to run what it makes in "), (False, "with AVX-512")):
        monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda has=has_instructions: has)
        monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda has=has_instructions: has)
        found = {finding.what: finding for finding in examine(machine_checks(tmp_path))}
        for what in ("int8, for writing", "AdamW in 8 bits"):
            assert found[what].ok and needed in found[what].figure
        assert "with a C compiler" in found["float32, for writing"].figure
