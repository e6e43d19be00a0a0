"""`Configuration`: one way in which a launcher may specialise a Triton kernel, as data. Imports no Triton.

Each `fused.py` has `configurations(capability)`, which yields all that its launchers can choose on a GPU of that
compute capability (80 for sm_80, 90 for sm_90). They are compiled ahead of time in CI, where there is no GPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Configuration:
    """A kernel, the types of its arguments, and the values of its compile-time constants.

    op: the folder; name: tells the configurations of an op apart, such as "decode bf16 head 128".
    kernel: the function that `triton.jit` gave.
    types: of each run-time argument, as Triton writes them: "*bf16", "*i32", "fp32", "i32".
    constants: values of the `tl.constexpr` arguments.
    aligned: pointers and integers that the launcher's arguments make multiples of 16 (bytes, or the value).
    options: further options of the launch, such as {"enable_fp_fusion": False}.
    spill_free: whether a spilled register is a fault here; `why_spills` says why not where it is not obvious.
    """

    op: str
    name: str
    kernel: Any
    types: Mapping[str, str]
    constants: Mapping[str, Any]
    num_warps: int
    num_stages: int
    aligned: frozenset[str] = field(default_factory=frozenset)
    options: Mapping[str, Any] = field(default_factory=dict)
    spill_free: bool = True
    why_spills: str = ""
