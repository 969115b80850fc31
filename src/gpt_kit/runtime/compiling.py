"""torch.compile: when it can be had, and how to do without it for a while."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys

from gpt_kit.errors import DeviceError


def can_compile() -> bool:
    """Whether there is a C++ compiler, which torch needs on every device."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++", "cl"))


def check_can_compile() -> None:
    """Raises: DeviceError where there is no compiler."""
    if not can_compile():
        raise DeviceError("compiling needs a C++ compiler, and none was found (c++, g++, clang++). Install one, or --training.compile off")


def without_compiling() -> contextlib.AbstractContextManager[object]:
    """A context in which compiled modules run as they are written."""
    if "torch._dynamo" not in sys.modules:  # nothing was compiled, and importing the compiler would take seconds
        return contextlib.nullcontext()
    import torch

    eager: contextlib.AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return eager
