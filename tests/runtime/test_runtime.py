"""The machine: devices and precisions that are not there are refused; random state crosses the disk; signals are requests first."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from gpt_kit.errors import DeviceError
from gpt_kit.files import read_tensors, write_tensors
from gpt_kit.runtime import StopRequest, choose_device, choose_precision, describe_machine, random_state, restore_random_state

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:99", "meta", "xpu"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(DeviceError, match=rf"device '{name}' is not there: this machine offers cpu"):
        choose_device(name)


def test_a_name_that_is_no_device_is_refused() -> None:
    with pytest.raises(DeviceError, match="unknown device 'gpu'; expected auto, cpu, cuda, cuda:N or mps"):
        choose_device("gpu")


def test_auto_is_something_that_is_there() -> None:
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    assert choose_device("cpu") == CPU


def test_every_format_runs_where_it_says_and_only_there() -> None:
    """Matrix products in the format asked for, float32 untouched; only fp16 scales its losses."""
    x = torch.randn(3, 4)
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        precision = choose_precision(name, CPU)
        with precision.autocast():
            assert (x @ x.T).dtype == dtype
        assert precision.scaler.is_enabled() == (name == "fp16")
        assert (x @ x.T).dtype == torch.float32
    assert choose_precision("auto", CPU).name in ("float32", "bf16")
    with pytest.raises(DeviceError, match="tf32 exists on CUDA devices only; this run is on cpu"):
        choose_precision("tf32", CPU)
    with pytest.raises(DeviceError, match="unknown precision 'int4'"):
        choose_precision("int4", CPU)


def test_random_state_crosses_the_disk(tmp_path: Path) -> None:
    torch.manual_seed(3)
    torch.rand(5)
    write_tensors(tmp_path / "random.safetensors", random_state())
    expected = torch.rand(7)
    torch.manual_seed(8)
    restore_random_state(read_tensors(tmp_path / "random.safetensors"))
    assert torch.equal(torch.rand(7), expected)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_a_request_and_the_second_is_not_caught(number: signal.Signals) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    with StopRequest() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop and stop.signal_number == number
        for each in before:
            assert signal.getsignal(each) == signal.SIG_DFL
    assert {each: signal.getsignal(each) for each in before} == before


def test_the_machine_is_described_with_what_a_later_reader_needs() -> None:
    described = describe_machine()
    assert described["torch"] == torch.__version__
    assert described["cpu_cores"] >= 1 and described["cpu_threads"] >= 1
    assert {"python", "system", "accelerators"} <= described.keys()
