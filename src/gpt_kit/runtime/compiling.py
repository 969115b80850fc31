"""Compilers: torch.compile, when it can be had and how to do without it for a while; and C."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from gpt_kit.errors import DeviceError


def can_compile() -> bool:
    """Whether there is a C++ compiler, which torch needs on every device."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++", "cl"))


def check_can_compile() -> None:
    """Raises: DeviceError where there is no compiler."""
    if not can_compile():
        raise DeviceError("compiling needs a C++ compiler, and none was found (c++, g++, clang++). Install one, or --training.compile off")


@cache
def compiled_c(source: Path, *flags: str) -> ctypes.CDLL | None:
    """A file in C as a library, made in a second; None where no compiler makes it. With OpenMP, import torch first: one pool of threads."""
    compiler = next(filter(shutil.which, (os.environ.get("CC", ""), "cc", "gcc", "clang")), None)
    if compiler is None:
        return None
    try:
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "library.so"  # which stays in memory when the file is gone
            subprocess.run([compiler, *flags, "-shared", "-fPIC", "-o", library, source], check=True, capture_output=True)
            return ctypes.CDLL(str(library))
    except (OSError, subprocess.CalledProcessError):  # no room, no right to run what lies there, another kind of compiler
        return None


def without_compiling() -> contextlib.AbstractContextManager[object]:
    """A context in which compiled modules run as they are written."""
    if "torch._dynamo" not in sys.modules:  # nothing was compiled, and importing the compiler would take seconds
        return contextlib.nullcontext()
    import torch

    eager: contextlib.AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return eager
