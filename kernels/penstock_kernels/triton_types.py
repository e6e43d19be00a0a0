"""Torch's types as Triton writes them, for `Configuration.types`. Imports no Triton."""

from collections.abc import Mapping

import torch

TRITON_TYPES: Mapping[torch.dtype, str] = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float8_e4m3fn: "fp8e4nv",
    torch.int8: "i8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
}
FLOATS = ("fp32", "fp16", "bf16")
"""What models compute in."""
