"""Where the processes of a run find each other.

torchrun keeps one store of names and addresses over its restarts, so the addresses of dead processes are still in it, and who comes
first knocks at their doors (pytorch issues 135712 and 167288). Here every life of a run meets under a name of its own: process 0 makes
one up and tells it to whoever asks now. A question carries a random word, and so does its answer: neither can be one of the dead's.
"""

from __future__ import annotations

import time
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

POLL_SECONDS = 0.05


def meet(timeout: timedelta) -> tuple[Store, int, int]:
    """The store of this life, the process's rank and the number of processes. Raises: RuntimeError when time is up."""
    from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

    store, rank, size = next(rendezvous("env://", timeout=timeout))
    store.set_timeout(timeout)
    word = uuid.uuid4().hex
    name = _tell(store, size, word) if rank == 0 else _ask(store, rank, word, timeout)
    return PrefixStore(name, store), rank, size


def _tell(store: Store, size: int, name: str) -> str:
    for rank in range(1, size):
        store.delete_key(f"question/{rank}")  # the dead's; the living ask again
    for rank in range(1, size):
        word = store.get(f"question/{rank}").decode()  # waits
        store.set(f"answer/{word}", name)
    return name


def _ask(store: Store, rank: int, word: str, timeout: timedelta) -> str:
    deadline = time.monotonic() + timeout.total_seconds()
    while not store.check([f"answer/{word}"]):
        if time.monotonic() > deadline:
            raise RuntimeError("process 0 did not answer")
        store.set(f"question/{rank}", word)
        time.sleep(POLL_SECONDS)
    name: str = store.get(f"answer/{word}").decode()
    return name
