"""Is this machine sound? Versions, device and number format, threads, compiler, room, and a disk that keeps what it is given."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from gpt_kit.config.model import HEAD_WIDTH
from gpt_kit.doctor.checks import Check
from gpt_kit.errors import ConfigError
from gpt_kit.files import write_atomically
from gpt_kit.generation.decoder import float32_kernel
from gpt_kit.generation.int8_decoder import int8_kernel
from gpt_kit.generation.quantize import check_int8
from gpt_kit.runtime import can_compile, choose_device, choose_precision, describe_machine, free_memory
from gpt_kit.training.adamw_8bit import is_fast

OLDEST_TORCH = (2, 11)
LITTLE = 10**9  # bytes of memory or disk below which even a small run is in danger
SIDE = 1024  # of the matrices whose product is timed
EXTRAS = {
    "hub": "huggingface_hub", "parquet": "pyarrow", "zstd": "zstandard", "tensorboard": "tensorboard", "wandb": "wandb",
    "swanlab": "swanlab", "trackio": "trackio",
}  # fmt: skip


def machine_checks(folder: Path) -> list[Check]:
    """What every run needs; files would be written into `folder`."""
    return [
        Check("torch", _torch_version, f"install torch {'.'.join(map(str, OLDEST_TORCH))} or later: pip install --upgrade torch"),
        Check("products on the device", _products, "the device computes wrongly or not at all: try --training.device cpu"),
        Check("number format", _number_format, "bf16 is slower here than float32: train with --training.precision float32"),
        Check("threads", _threads, "more threads than cores wait for one another: set OMP_NUM_THREADS to the number of cores, or unset it"),
        Check("compiler for torch.compile", _compiler, "install a C++ compiler (g++ or clang++), or train with --training.compile off"),
        Check("float32, for writing", _float32, ""),
        Check("int8, for writing", _int8, ""),
        Check("AdamW in 8 bits", _adamw_8bit, ""),
        Check("free memory", _memory, "end other programs, or take a smaller model; gpt-kit plan says what a run needs"),
        Check("free disk", partial(_disk, folder), "make room, or let --out name another disk"),
        Check("write, flush, rename", partial(_writing, folder), f"nothing can be kept in {folder}: let --out name another folder"),
        Check("extras", _extras, ""),
    ]


def _torch_version() -> tuple[bool, str]:
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    return version >= OLDEST_TORCH, f"{torch.__version__} under Python {describe_machine()['python']}"


def _products() -> tuple[bool, str]:
    """A product on the device beside the same in float64 on the CPU."""
    device = choose_device()
    a, b = (torch.randn(256, 256, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    exact = a.double() @ b.double()
    error = float(((a.to(device) @ b.to(device)).cpu().double() - exact).abs().max() / exact.abs().max())
    return error < 1e-2, f"{_name_of(device)}, relative error {error:.0e}"


def _name_of(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device}: {torch.cuda.get_device_name(device)}"
    return f"{device}: {torch.backends.cpu.get_cpu_capability()}" if device.type == "cpu" else str(device)


def _number_format() -> tuple[bool, str]:
    """What `auto` takes must not be slower than float32."""
    device = choose_device()
    precision = choose_precision("auto", device)
    seconds = {dtype: _seconds_of_product(device, dtype) for dtype in (torch.float32, precision.autocast_dtype or torch.float32)}
    rates = ", ".join(f"{str(dtype).removeprefix('torch.')} {2 * SIDE**3 / taken / 1e12:.2g} TFLOP/s" for dtype, taken in seconds.items())
    why = "computed in hardware" if precision.autocast_dtype else "no bf16 in hardware"
    instructions = [name for name in ("amx_tile", "avx512_bf16") if device.type == "cpu" and _cpu_has(name)]
    seen = f" ({', '.join(instructions)})" if instructions else ""
    return min(seconds.values()) >= 0.8 * list(seconds.values())[-1], f"{precision.name}, {why}{seen}: {rates}"


def _cpu_has(instructions: str) -> bool:
    test = getattr(torch.cpu, f"_is_{instructions}_supported", None)
    return bool(test is not None and test())


def _seconds_of_product(device: torch.device, dtype: torch.dtype) -> float:
    a = torch.randn(SIDE, SIDE, device=device).to(dtype)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        (a @ a).sum().item()  # the number waits for the device
        times.append(time.perf_counter() - started)
    return min(times)


def _threads() -> tuple[bool, str]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return torch.get_num_threads() <= usable, f"{torch.get_num_threads()} threads on {usable} cores"


def _compiler() -> tuple[bool, str]:
    """Needed only where compiling is the default: on CUDA."""
    found = can_compile()
    return found or choose_device().type != "cuda", "found" if found else "none, and none is needed on this device unless asked for"


def _float32() -> tuple[bool, str]:
    """Nothing needs the kernels, so nothing is wrong without."""
    if float32_kernel() is not None:
        return True, "all in one call"
    return True, f"by torch, two thirds as fast as with {_kernels_need(True, '')}"


def _int8() -> tuple[bool, str]:
    """As above."""
    try:
        check_int8(torch.device("cpu"))
    except ConfigError:
        return True, "not on this CPU"
    if int8_kernel(HEAD_WIDTH) is not None:
        return True, f"{'AMX' if torch.cpu._is_amx_tile_supported() else 'AVX-512 VNNI'}, all in one call"
    return True, f"by FBGEMM, several times slower than with {_kernels_need(torch.cpu._is_vnni_supported(), 'AVX-512 VNNI')}"


def _adamw_8bit() -> tuple[bool, str]:
    """As above."""
    if is_fast(torch.device("cpu")):
        return True, "AVX-512, all in one pass"
    return True, f"by torch, slowly; fast with {_kernels_need(torch.cpu._is_avx512_supported(), 'AVX-512')}"


def _kernels_need(has_instructions: bool, instructions: str) -> str:
    if not has_instructions:
        return instructions
    return f"a C compiler, and the right to run what it makes in {tempfile.gettempdir()}"


def _memory() -> tuple[bool, str]:
    free = free_memory(choose_device())
    return free >= LITTLE, f"{free / 1e9:.1f} GB"


def _disk(folder: Path) -> tuple[bool, str]:
    free = shutil.disk_usage(folder).free
    return free >= LITTLE, f"{free / 1e9:.1f} GB in {folder.absolute()}"


def _writing(folder: Path) -> tuple[bool, str]:
    """As every file of a checkpoint is written."""
    path, content = folder / f".gpt-kit-doctor-{uuid.uuid4().hex[:8]}", os.urandom(2**20)
    started = time.perf_counter()
    try:
        write_atomically(path, content)
        return path.read_bytes() == content, f"1 MiB in {1000 * (time.perf_counter() - started):.0f} ms"
    finally:
        path.unlink(missing_ok=True)


def _extras() -> tuple[bool, str]:
    there = [extra for extra, package in EXTRAS.items() if find_spec(package)]
    missing = [extra for extra in EXTRAS if extra not in there]
    return True, f"{', '.join(there) or 'none'}" + (f"; not installed: {', '.join(missing)}" if missing else "")
