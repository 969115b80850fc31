"""Memory: keep what was freed at hand, and know a shortage by its many names.

glibc gives every large block back to the system when it is freed, so each training step faults its activations in anew, page by
page. Told to keep them, a CPU step of GPT-2 124M runs half as fast again (measured: benchmarks/train_step_cpu.py).
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
# What torch, the system and cuBLAS say, in small letters.
OUT_OF_MEMORY = ("out of memory", "not enough memory", "allocate memory", "defaultcpuallocator", "alloc_failed")
LARGEST = 2**31 - 1
LARGEST_THRESHOLDS = (LARGEST, 32 * 2**20)  # some versions of glibc take no more than 32 MiB


def keep_freed_memory() -> bool:
    """Ask the C library not to return freed blocks. False where it knows no such request (not glibc): nothing is changed there."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return any(mallopt(M_MMAP_THRESHOLD, size) for size in LARGEST_THRESHOLDS) and bool(mallopt(M_TRIM_THRESHOLD, LARGEST))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on the device or beside it."""
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in OUT_OF_MEMORY)
