"""C for what torch has no operation for: compiled when it is first needed, where there is a compiler."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path


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
