"""Which device to compute on, whether in bf16, and memory that is kept from step to step."""

from __future__ import annotations

import ctypes
import sys

import torch

from lab.settings import SettingsError

# Numbers of glibc's malloc.h: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD (its largest), bytes.
MALLOPT = {-1: 2**31 - 1, -2: 2**28, -3: 2**25}


def pick_device(name: str) -> torch.device:
    """Return the named device, or for `auto` the fastest here. Raises SettingsError."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available[name]:
        raise SettingsError(f"this machine has no {name} device; leave --device out.")
    return torch.device(name)


def native_bf16(device: torch.device) -> bool:
    """Whether the device computes bf16 in hardware, rather than by way of fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


def keep_freed_memory() -> None:
    """Let this process keep what it frees, as each training step asks for the same again.

    Without it glibc gives large blocks back to the system, which clears them page by page at the
    next step: a tenth to a fifth of the time of training on a CPU. Elsewhere, does nothing.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # a libc other than glibc may have none
    if mallopt is not None:
        for parameter, value in MALLOPT.items():
            mallopt(parameter, value)
