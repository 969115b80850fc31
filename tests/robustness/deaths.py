"""Die before every single change to the disk, or find the disk full there, one after the other.

`die_everywhere(act, run, folder)` copies the run and lets a forked process do `act(copy)`; before its first change to the disk that
process is gone. Another copy, and it is gone before the second change; and so on, until one lives to the end. Python itself reports
each change (audit events: a file opened for writing, renamed, removed, a folder made); safetensors, which it does not see, is
wrapped: half of a tensor file is there when its process dies.

With `full`, nobody dies: what would be written, made or renamed is refused, as the system refuses it where no room is left.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch

KILLED = 137
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.chmod", "os.truncate", "shutil.rmtree"}
NEEDING_ROOM = {"os.rename", "os.mkdir", "os.link"}
WRITING = os.O_WRONLY | os.O_RDWR


def die_everywhere(act: Callable[[Path], object], run: Path, folder: Path, full: bool = False) -> None:
    """Leaves folder/0000, folder/0001 … as each death left them, with what it died before in a file `died`. The last one lived.

    What `act` raised stands in a file `error`.
    """
    number, died = 0, True
    while died:
        copy = folder / f"{number:04d}"
        shutil.copytree(run, copy)
        process = os.fork()
        if process == 0:
            stop_before_change(number, copy, full)
            try:
                act(copy)
            except BaseException as error:
                (copy / "error").write_text(f"{type(error).__name__}: {error}")
            os._exit(0)
        os.waitpid(process, 0)
        died = (copy / "died").exists()
        number += 1


def stop_before_change(number: int, run: Path, full: bool) -> None:
    """Arm this process; it cannot be disarmed."""
    changes = 0
    no_room = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def count(what: str, *arguments: Any, half: Callable[[], object] = lambda: None) -> None:
        nonlocal changes
        if changes == number:
            changes += 1  # the lines below change the disk as well
            half()
            (run / "died").write_text(f"{what} {' '.join(map(str, arguments))}")
            if full:
                raise no_room
            os._exit(KILLED)
        changes += 1

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        of_interest = NEEDING_ROOM if full else CHANGES
        if event in of_interest or (event == "open" and arguments[2] & WRITING and str(run) in str(arguments[0])):
            count(event, *arguments[:2])

    save_file = safetensors.torch.save_file

    def save_file_or_die(tensors: Any, path: Any, **options: Any) -> None:
        def half() -> None:
            save_file(tensors, path, **options)
            os.truncate(path, Path(path).stat().st_size // 2)

        count("save_file", path, half=half)
        save_file(tensors, path, **options)

    safetensors.torch.save_file = save_file_or_die
    sys.addaudithook(audit)


def in_the_save_of(step: int, run: Path, folder: Path, full: bool = False) -> None:
    """To be called in a process that is about to train: when it comes to save `step`, that save dies everywhere; then all is over."""
    from gpt_kit.training import Trainer

    save = Trainer.save

    def save_or_die(trainer: Trainer) -> None:
        if trainer.state.step != step:
            return save(trainer)

        def act(copy: Path) -> None:
            trainer.run = copy
            save(trainer)

        die_everywhere(act, run, folder, full)
        os._exit(KILLED)

    Trainer.save = save_or_die


def before_step(step: int) -> None:
    """This process dies when it is about to make that step."""
    from gpt_kit.training import Trainer

    make_step = Trainer._step

    def step_or_die(trainer: Trainer) -> None:
        if trainer.state.step == step - 1:
            os._exit(KILLED)
        make_step(trainer)

    Trainer._step = step_or_die


def in_the_start_of(words: list[str], run: Path, folder: Path) -> None:
    """The command `words`, up to its first training step, dies everywhere."""
    from gpt_kit.cli import main
    from gpt_kit.training import Trainer

    def first_step(_: Trainer) -> None:
        os._exit(0)

    Trainer._step = first_step
    die_everywhere(lambda copy: main([str(copy) if word == str(run) else word for word in words]), run, folder)
    os._exit(KILLED)
