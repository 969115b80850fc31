"""C for what torch has no operation for: compiled when it is first needed, where there is a compiler, and kept for the next process."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path


@cache
def compiled_c(source: Path, *flags: str) -> ctypes.CDLL | None:
    """A file in C as a library, made in a second; None where no compiler makes it. With OpenMP, import torch first: one pool of threads.

    It is kept in the user's cache ($XDG_CACHE_HOME or ~/.cache, folder gpt-kit), if one can be written.
    """
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", ""), "cc", "gcc", "clang"))), None)
    if compiler is None:
        return None
    kept = _cache_folder() / f"{source.stem}-{_fingerprint(source, compiler, flags)}.so"
    with contextlib.suppress(OSError):  # it is not there, or is no library
        return ctypes.CDLL(str(kept))
    try:
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "library.so"  # which stays in memory when the file is gone
            subprocess.run([compiler, *flags, "-shared", "-fPIC", "-o", library, source], check=True, capture_output=True)
            loaded = ctypes.CDLL(str(library))
            _keep(library, kept)
            return loaded
    except (OSError, subprocess.CalledProcessError):  # no room, no right to run what lies there, another kind of compiler
        return None


def _cache_folder() -> Path:
    home = os.path.expanduser("~/.cache")  # noqa: PTH111  # pathlib's raises where nobody knows a home
    return Path(os.environ.get("XDG_CACHE_HOME") or home) / "gpt-kit"


def _fingerprint(source: Path, compiler: str, flags: tuple[str, ...]) -> str:
    """Of all that decides what is made: text, flags, compiler, and the instructions of this CPU."""
    found = hashlib.sha256()
    for file in (source, *sorted(source.parent.glob("*.h"))):
        found.update(file.read_bytes())
    program = Path(compiler).resolve()
    made = program, program.stat().st_size, program.stat().st_mtime_ns
    found.update(repr((flags, made, platform.machine(), _instructions())).encode())
    return found.hexdigest()[:16]


def _instructions() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        return ""


def _keep(library: Path, kept: Path) -> None:
    """In one step, so that nobody finds half of it."""
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = kept.with_suffix(f".{os.getpid()}")
        shutil.copyfile(library, partial)
        os.replace(partial, kept)
