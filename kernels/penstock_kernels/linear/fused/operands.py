"""What both kernels of linear layers take, and what they have to know of the machine. No Triton here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from penstock_kernels.activation import Activation
from penstock_kernels.linear import MlpActivation

Form = Literal["plain", "int8", "int4"]


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight as the kernels read it.

    values: [outputs, inputs] of the dtype of x in the form "plain"; else as in `linear.quantised`, and so scales.
    arrivals: int32 zeros, a counter for each tile of `tiles.SEGMENT_OUTPUTS` outputs, and zeros again after each
        product; None where the sum over inputs is never split.
    """

    form: Form
    values: Tensor
    scales: Tensor | None
    shape: tuple[int, int]
    arrivals: Tensor | None


@dataclass(frozen=True, slots=True)
class Operands:
    """One product: x [rows, inputs] to out [rows, outputs after the activation], the residual if there is one."""

    x: Tensor
    weight: Weight
    bias: Tensor | None
    residual: Tensor | None
    out: Tensor
    activation: Activation | None
    is_gated: bool

    @classmethod
    def of(
        cls,
        x: Tensor,
        weight: Weight,
        bias: Tensor | None = None,
        activation: MlpActivation | None = None,
        residual: Tensor | None = None,
        dtype: torch.dtype | None = None,
    ) -> "Operands":
        """`dtype`: of out; that of x if not given."""
        is_gated = activation is not None and activation.is_gated
        num_outputs = weight.shape[0] // 2 if is_gated else weight.shape[0]
        out = residual if residual is not None else x.new_empty((len(x), num_outputs), dtype=dtype)
        return cls(x, weight, bias, residual, out, activation.function if activation else None, is_gated)

    @property
    def num_outputs(self) -> int:
        """After the activation."""
        return self.out.shape[1]

    @property
    def num_inputs(self) -> int:
        return self.x.shape[1]

    @property
    def kind(self) -> "Kind":
        return Kind(self.weight.form, self.x.element_size(), self.is_gated)


class Kind(NamedTuple):
    """What decides how large the pieces are that a kernel works in. `size`: bytes of an element of x."""

    form: Form
    size: int
    is_gated: bool

    def weight_bytes(self, inputs: int) -> int:
        """Of this many inputs of one output."""
        return {"plain": inputs * self.size, "int8": inputs, "int4": inputs // 2}[self.form]


@dataclass(frozen=True, slots=True)
class Machine:
    """capability: 80 for sm_80 and so on. shared_memory: bytes of it on a multiprocessor that programs may use."""

    capability: int
    shared_memory: int
    num_multiprocessors: int

    def num_stages(self, stage_bytes: int, programs: int = 1, most: int = 6) -> int:
        """How many stages of a pipeline fit with this many programs on a multiprocessor; at least two."""
        return max(2, min(most, self.shared_memory // programs // stage_bytes))


# CUDA's programming guide, "Technical specifications per compute capability": 164 KiB on sm_80, 228 on sm_90 and
# sm_100, about 100 elsewhere. A little is left for what the system and Triton's own reductions take.
_SHARED_MEMORY = {80: 156, 90: 216, 100: 216, 103: 216}


def machine_of(capability: int, num_multiprocessors: int = 132) -> Machine:
    """By default with as many multiprocessors as an H100 has."""
    return Machine(capability, _SHARED_MEMORY.get(capability, 92) * 1024, num_multiprocessors)


def machine(device: torch.device) -> Machine:
    """The device's; under the interpreter that of an H100, so that what runs there is what it would run."""
    return _machine_of_gpu(device) if device.type == "cuda" else machine_of(90, num_multiprocessors=4)


@cache
def _machine_of_gpu(device: torch.device) -> Machine:
    properties = torch.cuda.get_device_properties(device)
    return machine_of(10 * properties.major + properties.minor, properties.multi_processor_count)


class Variant(NamedTuple):
    """An example of operands, for `configurations`: types as Triton writes them, and which operands are there."""

    name: str
    kind: Kind
    x: str
    out: str
    activation: Activation | None
    has_bias: bool
    has_residual: bool

    @property
    def types(self) -> dict[str, str]:
        """Of the pointers."""
        weight = f"*{self.x}" if self.kind.form == "plain" else "*i8"
        scales = {"plain": None, "int8": "*fp32", "int4": "*bf16"}[self.kind.form]
        pointers = {
            "x": f"*{self.x}",
            "weight": weight,
            "scales": scales,
            "bias": f"*{self.x}" if self.has_bias else None,
            "residual": f"*{self.x}" if self.has_residual else None,
            "out": f"*{self.out}",
        }
        return {name: type for name, type in pointers.items() if type is not None}

    @property
    def constants(self) -> dict[str, Any]:
        """The pointers that are not there, and what the operands say of themselves."""
        absent = dict.fromkeys({"scales", "bias", "residual"} - self.types.keys())
        return {**absent, "FORM": self.kind.form, "ACTIVATION": self.activation, "IS_GATED": self.kind.is_gated}


_LAYERS: Mapping[str, tuple[bool, Activation | None, bool, bool]] = {
    "bare": (False, None, False, False),
    "residual": (False, None, False, True),
    "gated silu": (True, "silu", False, False),
    "bias residual": (False, None, True, True),
    "bias gelu_tanh": (False, "gelu_tanh", True, False),
}
"""(is_gated, activation, has_bias, has_residual): the first three are Llama's layers, the last two GPT-2's."""

_FORMS: tuple[Form, ...] = ("plain", "int8", "int4")


def linear_variants() -> Iterator[Variant]:
    """bfloat16 in all layers and forms; float16, whose code is the same but for the type, in the two largest layers.

    Float32 is computed from plain weights alone.
    """
    for x, size, layers, forms in (
        ("bf16", 2, tuple(_LAYERS), _FORMS),
        ("fp16", 2, ("gated silu", "bias residual"), _FORMS),
        ("fp32", 4, ("gated silu", "bias residual"), _FORMS[:1]),
    ):
        for form in forms:
            for layer in layers:
                is_gated, activation, has_bias, has_residual = _LAYERS[layer]
                kind = Kind(form, size, is_gated)
                yield Variant(f"{x} {form} {layer}", kind, x, x, activation, has_bias, has_residual)


def logits_variants() -> Iterator[Variant]:
    """The head: always plain, always to float32."""
    for x, size in (("bf16", 2), ("fp16", 2), ("fp32", 4)):
        yield Variant(x, Kind("plain", size, False), x, "fp32", None, False, False)
