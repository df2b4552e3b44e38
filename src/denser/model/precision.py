"""Devices on which bfloat16 is faster than single precision."""

from __future__ import annotations

import torch


def fast_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; without them it is many times slower."""
    if device.type == "cuda":
        # Cards before Ampere emulate it, which is slower than single precision.
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and bool(capabilities.get("avx512_bf16"))
