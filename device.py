"""Which device to compute on, and whether it computes bf16 in hardware."""

from __future__ import annotations

import torch

from settings import SettingsError


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
