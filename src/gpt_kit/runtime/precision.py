"""In which number format the matrix products run. Weights stay float32, and so do gradients and
optimizer state, but for 8-bit AdamW's (training/adamw_8bit.py).

float32  exact                             tf32   float32 storage, 10-bit mantissas in products (NVIDIA Ampere and later)
bf16     8-bit mantissa, float32's range   fp16   11-bit mantissa, small range: losses are scaled (Micikevicius et al. 2018)
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch

from gpt_kit.errors import DeviceError

NAMES = ("auto", "float32", "tf32", "bf16", "fp16")


@dataclass(frozen=True, slots=True)
class Precision:
    """One format on one kind of device; float32 is the null object that changes nothing."""

    name: str
    device_type: str
    autocast_dtype: torch.dtype | None
    scaler: torch.amp.GradScaler
    """Scales fp16 losses out of underflow; switched off for every other format."""

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """The context in which a forward pass runs. Rounded weights are not held until its end: each is used once in a pass."""
        return torch.autocast(self.device_type, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None, cache_enabled=False)


def choose_precision(name: str, device: torch.device) -> Precision:
    """'auto' is bf16 where the device computes it in hardware, else float32. Raises: DeviceError for what the device lacks."""
    if name not in NAMES:
        raise DeviceError(f"unknown precision {name!r}; expected one of {', '.join(NAMES)}")
    if name == "auto":
        name = "bf16" if _has_fast_bf16(device) else "float32"
    if name == "tf32" and device.type != "cuda":
        raise DeviceError(f"precision tf32 exists on CUDA devices only; this run is on {device.type}. Use float32 or auto")
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = name in ("tf32", "bf16", "fp16")
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(name)
    scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")
    return Precision(name, device.type, dtype, scaler)


def _has_fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # torch's own test for the instructions; absent from some builds, where the answer is no.
        tests = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return any(test is not None and test() for test in tests)
    return False
