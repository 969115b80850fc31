"""Threads that are released come back."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os, threading, torch
from gpt_kit.runtime import release_threads

def compute():
    return torch.randn(2_000_000, generator=torch.Generator().manual_seed(0)).exp().sum().item()

def count():
    return len(os.listdir("/proc/self/task"))

torch.set_num_threads(4)
alone = count()
first, gathered = compute(), count()
release_threads()
print(alone, gathered, count(), first == compute(), count())
"""


def test_they_end_and_come_back_with_the_same_sums() -> None:
    words = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout.split()
    alone, gathered, released, again = (int(words[i]) for i in (0, 1, 2, 4))
    assert words[3] == "True" and again == gathered
    if gathered > alone:  # GNU OpenMP, on Linux
        assert released == alone
