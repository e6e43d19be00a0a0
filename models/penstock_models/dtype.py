"""Which type the weights take when the user leaves the choice to us."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

DTypeName = Literal["auto", "bfloat16", "float16", "float32"]

_DTYPES: Mapping[str, torch.dtype] = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}


@dataclass(frozen=True, slots=True)
class DTypeChoice:
    """The type, its name, and why it was taken."""

    dtype: torch.dtype
    name: str
    reason: str


def choose_dtype(asked: DTypeName, stored: torch.dtype, device: torch.device, *, fast_bfloat16: bool) -> DTypeChoice:
    """Decide the type of weights and cache.

    Args:
        asked: what the user wants.
        stored: what the checkpoint has.
        fast_bfloat16: whether this machine's CPU multiplies bfloat16 in hardware; of no account on other devices.

    Raises:
        ValueError: `asked` is not a type.
    """
    if asked != "auto":
        if asked not in _DTYPES:
            raise ValueError(f"unknown dtype {asked!r}; known: auto, {', '.join(_DTYPES)}")
        return DTypeChoice(_DTYPES[asked], asked, "asked for")
    on_cpu = device.type == "cpu"
    if stored == torch.bfloat16:
        if on_cpu and not fast_bfloat16:
            return DTypeChoice(torch.float32, "float32", "the checkpoint has bfloat16, for which this CPU is slow")
        return DTypeChoice(stored, "bfloat16", "the checkpoint's")
    if stored == torch.float16:
        if on_cpu:
            # 576 x 3072, 16 tokens: 0.41 ms in float16, 0.45 in float32, on a CPU that has float16 instructions.
            reason = "the checkpoint has float16, which is no faster than float32 on a CPU and overflows earlier"
            return DTypeChoice(torch.float32, "float32", reason)
        return DTypeChoice(stored, "float16", "the checkpoint's")
    if stored == torch.float64:
        return DTypeChoice(torch.float32, "float32", "the checkpoint has float64, of which no kernel makes use")
    return DTypeChoice(torch.float32, "float32", "the checkpoint's")


def cpu_has_fast_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware: AVX512-BF16 or AMX on x86, whatever oneDNN accepts elsewhere."""
    x86 = torch.backends.cpu.get_cpu_capability().startswith(("AVX", "DEFAULT"))
    if x86:
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return torch._C._has_mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
