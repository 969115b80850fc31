"""Memory: keep what was freed at hand, forget what is not used again, and know a shortage by its many names.

glibc gives every large block back to the system when it is freed, so each training step faults its activations in anew, page by
page. Told to keep them, a CPU step of GPT-2 124M runs half as fast again (measured: benchmarks/train_step_cpu.py). oneDNN makes a
kernel for each shape of a product and keeps 1,024 of them, torch as many again, of 0.6 MB each: texts of ever new lengths would fill a
GB. A step of training has some 27 shapes.
"""

from __future__ import annotations

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
# What torch, the system and cuBLAS say, in small letters.
OUT_OF_MEMORY = ("out of memory", "not enough memory", "allocate memory", "defaultcpuallocator", "alloc_failed")
LARGEST = 2**31 - 1
KERNELS_KEPT = 32
LARGEST_THRESHOLDS = (LARGEST, 32 * 2**20)  # some versions of glibc take no more than 32 MiB


def tune_memory() -> bool:
    """Ask oneDNN to keep few kernels, if it is not at work yet, and the C library not to return freed blocks.

    False where that knows no such request (not glibc): nothing is changed there.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(KERNELS_KEPT))
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return any(mallopt(M_MMAP_THRESHOLD, size) for size in LARGEST_THRESHOLDS) and bool(mallopt(M_TRIM_THRESHOLD, LARGEST))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on the device or beside it."""
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in OUT_OF_MEMORY)
