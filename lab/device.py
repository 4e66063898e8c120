"""Choose the device, find what it supports, and keep freed memory for the next step."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import torch

from lab.settings import SettingsError

# Numbers of glibc's malloc.h: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD (its largest), bytes.
MALLOPT = {-1: 2**31 - 1, -2: 2**28, -3: 2**25}


def pick_device(name: str) -> torch.device:
    """Return the named device, or for "auto" the fastest one here. Raises SettingsError."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available[name]:
        raise SettingsError(
            f"this machine has no {name} device; omit --device to use the fastest one that it has."
        )
    return torch.device(name)


def native_bf16(device: torch.device) -> bool:
    """Return whether the device computes bf16 in hardware, not by conversion to fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, because each step needs as much again.

    By default glibc returns large blocks to the system, which clears them page by page at the
    next step. That takes 10 to 20 % of the training time on a CPU. Does nothing without glibc.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # a libc other than glibc may have none
    if mallopt is not None:
        for parameter, value in MALLOPT.items():
            mallopt(parameter, value)


def compiled(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """Return a function compiled by torch.compile; on a GPU as one CUDA graph."""
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    return torch.compile(function, mode=mode)
