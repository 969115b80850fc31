"""A child process that may take little more memory than it has at its start."""

from __future__ import annotations

import resource
from pathlib import Path

ROOM = 300_000_000  # bytes


def limit_memory() -> None:
    """The limit is one on addresses: torch then fails to allocate, as it does on a device that is full."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
