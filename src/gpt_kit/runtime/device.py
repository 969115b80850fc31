"""Which device to compute on, and what machine this is."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch

from gpt_kit.errors import DeviceError


def choose_device(name: str = "auto") -> torch.device:
    """'auto' (CUDA, else MPS, else CPU), 'cpu', 'cuda', 'cuda:1' or 'mps'; in a process that torchrun started, 'cuda' is its own GPU.

    Raises: DeviceError for one that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"unknown device {name!r}; expected auto, cpu, cuda, cuda:N or mps") from None
    there = _available_devices()
    wanted = "cuda:0" if name == "cuda" else str(device)
    if wanted not in there:
        raise DeviceError(f"device {name!r} is not there: this machine offers {', '.join(there)}. Choose one of them, or 'auto'")
    return device


def _available_devices() -> list[str]:
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


def describe_machine() -> dict[str, Any]:
    """What a later reader needs to judge a figure: versions, processor, cores, accelerators."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cpu_cores": os.cpu_count(),
        "cpu_threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "accelerators": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }
