"""How much memory is free, and how much this process has used at most."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

CGROUP = Path("/sys/fs/cgroup")  # a container's own limit, which may be below what the machine has


def free_memory(device: torch.device) -> int:
    """Bytes that a process could still take on `device`: of the card, or of main memory and the container's limit."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return min(_available_in_machine(), _available_in_container())


def peak_memory(device: torch.device) -> int:
    """Bytes this process has used at most so far: resident memory on a CPU, what torch has allocated on a card."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def used_memory(device: torch.device) -> int:
    """Bytes this process uses now, counted as `peak_memory` does; where the system does not tell, that peak."""
    statm = Path("/proc/self/statm")
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    if device.type == "cpu" and statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return peak_memory(device)


def _available_in_machine() -> int:
    """Linux counts caches it can give up as available; elsewhere all of the memory is taken for free."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _available_in_container() -> int:
    try:
        limit, used = (CGROUP / "memory.max").read_text().strip(), int((CGROUP / "memory.current").read_text())
        cache = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines()).get("inactive_file", "0")
    except (OSError, ValueError):
        return sys.maxsize
    return sys.maxsize if limit == "max" else int(limit) - used + int(cache)
