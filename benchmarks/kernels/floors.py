"""What the device can do at its best, measured in the same run as what is compared with it."""

from dataclasses import dataclass
from typing import Any

import torch
from kernels.clock import measure
from kernels.contest import Contest, Step


@dataclass(frozen=True, slots=True)
class Floors:
    """Bytes per second of a large copy (read and written bytes both count) and of a large read, and operations per
    second of a large product of square matrices by torch's library, in the dtype of the models."""

    copy_bandwidth: float
    read_bandwidth: float
    matmul_rate: float

    def seconds(self, contest: Contest) -> float:
        """The least time for a contest."""
        return max(contest.num_bytes / self.copy_bandwidth, contest.num_operations / self.matmul_rate)

    def as_json(self) -> dict[str, Any]:
        return {
            "copy_bandwidth": self.copy_bandwidth,
            "read_bandwidth": self.read_bandwidth,
            "matmul_rate": self.matmul_rate,
        }


def measure_floors(device: torch.device) -> Floors:
    """Measure. On a CPU only so that there are numbers: small, once."""
    on_gpu = device.type == "cuda"
    num_bytes = 2**30 if on_gpu else 2**22
    size = 8192 if on_gpu else 64
    dtype = torch.bfloat16 if on_gpu else torch.float32
    source = torch.ones(num_bytes // 4, device=device)
    target = torch.empty_like(source)
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(left)

    def copy() -> Step:
        return lambda: target.copy_(source)

    def read() -> Step:
        return lambda: source.sum()

    def multiply() -> Step:
        return lambda: torch.mm(left, right, out=out)

    return Floors(
        copy_bandwidth=2 * num_bytes / measure(copy, num_bytes, device).median,
        read_bandwidth=num_bytes / measure(read, num_bytes, device).median,
        matmul_rate=2 * size**3 / measure(multiply, 3 * size * size * dtype.itemsize, device).median,
    )
