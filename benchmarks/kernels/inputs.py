"""Random inputs made on the device itself: a gigabyte drawn on the host would take longer than what is measured."""

from collections.abc import Callable

import torch
from kernels.contest import Result
from torch import Tensor


def normal(*shape: int, dtype: torch.dtype, device: torch.device, seed: int = 0) -> Tensor:
    """Normal values, the same for the same arguments on the same device."""
    generator = torch.Generator(device).manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype, device=device)


def model_dtype(device: torch.device) -> torch.dtype:
    """What models are served in there; float32 on a CPU, where benchmarks only show that they run."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def name_of(dtype: torch.dtype) -> str:
    return {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}[dtype]


def compiled(function: Callable[..., Result], device: torch.device) -> Callable[..., Result]:
    """What torch's compiler makes of plain torch: the peer of a fused kernel. As it is on a CPU, to spare the time."""
    if device.type != "cuda":
        return function
    return torch.compile(function, dynamic=False, fullgraph=True)
