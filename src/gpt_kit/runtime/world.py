"""The processes of one run, and what they tell each other.

`World` is a process alone: a sum over all processes is the number itself, and nobody waits for anybody. `ProcessGroup` answers the same
questions for one of several that torchrun has started (gloo between CPUs, NCCL between GPUs), so that no caller asks how many there are.

Whoever waits longer than the time limit for another process leaves with an error; torchrun then ends the others, and starts them all
again where it was given `--max-restarts`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from types import TracebackType
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from gpt_kit.errors import ConfigError, DeviceError, GPTKitError
from gpt_kit.runtime.meeting import meet

Number = TypeVar("Number", int, float, Tensor)
TORCHRUN = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # what it tells a process, beside WORLD_SIZE


class World:
    """One process alone: the null object of everything that several would have to talk about."""

    rank = 0
    """This process's number, from 0."""
    size = 1
    """How many processes there are."""
    local_size = 1
    """How many of them are on this machine."""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and speaks to people."""
        return self.rank == 0

    def sum(self, value: Number) -> Number:
        """The sum of everybody's value."""
        return value

    def largest(self, number: int) -> int:
        """The largest of everybody's numbers; of flags, whether anybody's is set."""
        return number

    def from_main(self, text: str) -> str:
        """What the main process says."""
        return text

    def from_anybody(self, text: str) -> str:
        """What the first process says that has something to say; empty where none has."""
        return text

    def barrier(self) -> None:
        """Wait until everybody is here."""

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """A block that the main process has left before the others enter it: they find the files that it wrote."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()

    def agree(self, facts: Mapping[str, str]) -> None:
        """Raises: ConfigError, in every process, that names the facts on which they differ and who says what."""

    def seed_step(self, seed: int, step: int) -> None:
        """Give each process its own dropout, a function of seed, step and rank. A process alone keeps the state it has."""

    def gradient_sync(self, model: nn.Module, enabled: bool) -> contextlib.AbstractContextManager[object]:
        """The context of one forward and backward pass; gradients are averaged over the processes only where `enabled`."""
        del model, enabled
        return contextlib.nullcontext()

    def __enter__(self) -> World:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Nobody to part from."""


ALONE = World()


class ProcessGroup(World):
    """One of several processes. All of them must ask the same questions in the same order."""

    def __init__(self, rank: int, size: int, timeout_seconds: float) -> None:
        self.rank, self.size, self.timeout_seconds = rank, size, timeout_seconds
        self.local_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

    def sum(self, value: Number) -> Number:
        total = value.detach().clone() if isinstance(value, Tensor) else torch.tensor(value, dtype=_dtype_of(value))
        torch.distributed.all_reduce(total)
        return total if isinstance(value, Tensor) else total.item()  # type: ignore[return-value]

    def largest(self, number: int) -> int:
        found = torch.tensor(int(number))
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return int(found)

    def from_main(self, text: str) -> str:
        return self._texts_of_all(text)[0]

    def from_anybody(self, text: str) -> str:
        return next(filter(None, self._texts_of_all(text)), "")

    def barrier(self) -> None:
        self.largest(0)  # on the CPU; torch's own would occupy a GPU

    def agree(self, facts: Mapping[str, str]) -> None:
        everybodys: list[dict[str, str]] = [json.loads(text) for text in self._texts_of_all(json.dumps(dict(facts)))]
        names = dict.fromkeys(name for theirs in everybodys for name in theirs)
        differing = [name for name in names if len({theirs.get(name) for theirs in everybodys}) > 1]
        if differing:
            told = "; ".join(_who_says_what(name, [theirs.get(name, "missing") for theirs in everybodys]) for name in differing)
            raise ConfigError(
                f"the {self.size} processes of this run disagree about {told}. Start all of them with the same settings, text and versions"
            )

    def seed_step(self, seed: int, step: int) -> None:
        torch.manual_seed(int(np.random.SeedSequence((seed, step, self.rank)).generate_state(1, np.uint64)[0] >> 1))

    @contextlib.contextmanager
    def gradient_sync(self, model: nn.Module, enabled: bool) -> Iterator[None]:
        if isinstance(model, nn.parallel.DistributedDataParallel):
            with contextlib.nullcontext() if enabled else model.no_sync():
                yield
        else:  # sharded by FSDP2
            model.set_requires_gradient_sync(enabled)  # type: ignore[operator]
            yield

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            torch.distributed.destroy_process_group()
        elif isinstance(error, torch.distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower()):
            raise GPTKitError(
                f"rank {self.rank} lost contact with another process of this run, which has ended or did not answer within "
                f"{self.timeout_seconds:g} s (--training.rank-timeout-seconds). Its own message tells why; what was saved is intact, "
                f"and --resume auto goes on from there. ({str(error).splitlines()[0]})"
            ) from error

    def _texts_of_all(self, text: str) -> list[str]:
        own = torch.tensor(list(text.encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        torch.distributed.all_gather(sizes, torch.tensor([len(own)]))
        longest = int(torch.cat(sizes).max())
        rows = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.size)]
        torch.distributed.all_gather(rows, nn.functional.pad(own, (0, longest - len(own))))
        return [bytes(row[: int(size)].tolist()).decode() for row, size in zip(rows, sizes, strict=True)]


def start_world(device: torch.device, timeout_seconds: float) -> World:
    """The world that this process was started into, by torchrun's environment. Use it in a `with` block.

    Raises: DeviceError where the environment or the device does not fit; GPTKitError when the others do not come in time.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    if device.type == "mps":
        raise DeviceError("several processes cannot share an MPS device. Start one process, or use --training.device cpu")
    if missing := [name for name in TORCHRUN if name not in os.environ]:
        raise DeviceError(
            f"WORLD_SIZE is {size}, but {', '.join(missing)} is not set. Start several processes with torchrun: "
            "torchrun --nproc-per-node=N -m gpt_kit train …"
        )
    local_rank, backend, timeout = int(os.environ["LOCAL_RANK"]), "gloo", timedelta(seconds=timeout_seconds)
    if device.type == "cuda":
        if device.index != local_rank:
            raise DeviceError(
                f"each process has a GPU of its own, and number {local_rank} was told to use {device}. Use --training.device cuda"
            )
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"  # numbers and flags go between the CPUs and never wait for a GPU
    try:
        store, rank, size = meet(timeout)
        torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    except RuntimeError as error:
        raise GPTKitError(
            f"rank {os.environ['RANK']} did not find all {size} processes of this run within {timeout_seconds:g} s "
            f"at {os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} ({str(error).splitlines()[0]})"
        ) from error
    return ProcessGroup(rank, size, timeout_seconds)


def _dtype_of(value: float) -> torch.dtype:
    return torch.float64 if isinstance(value, float) else torch.int64


def _who_says_what(name: str, values: list[str]) -> str:
    said = {value: [rank for rank, other in enumerate(values) if other == value] for value in dict.fromkeys(values)}
    parts = [f"{value} on rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}" for value, ranks in said.items()]
    return f"{name} ({', '.join(parts)})"
