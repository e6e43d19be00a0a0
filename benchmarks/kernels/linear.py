"""Linear layers: a weight applied to a few rows, which reads the weight and no more, and to many, which computes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from kernels.contest import Contest, Scale, Step, Tables, sides_of
from kernels.inputs import model_dtype, name_of, normal
from model_shapes import LLAMA_1B, LLAMA_8B, QWEN3_06B, TINY
from torch import Tensor

from penstock_kernels import Kernels
from penstock_kernels.linear import MlpActivation
from penstock_kernels.linear.quantised import QuantisedType
from penstock_models.spec import ModelSpec

GATED_SILU = MlpActivation("silu", is_gated=True)
# (name, model, numbers of rows)
MODELS: Mapping[Scale, tuple[tuple[str, ModelSpec, tuple[int, ...]], ...]] = {
    "full": (
        ("Llama-3.1-8B", LLAMA_8B, (1, 8, 16, 64, 256, 8192)),
        ("Llama-3.2-1B", LLAMA_1B, (1, 16, 64)),
        ("Qwen3-0.6B", QWEN3_06B, (1, 16, 64)),
    ),
    "quick": (("Llama-3.1-8B", LLAMA_8B, (1, 256)),),
    "tiny": (("tiny", TINY, (3,)),),
}
# Weights of fewer bits are measured for one model, and for batches that a server of few users has.
QUANTISED = LLAMA_8B
QUANTISED_ROWS = (1, 8, 64)
QUANTISED_BITS: Mapping[QuantisedType, int] = {"int8": 8, "int4": 4}


@dataclass(frozen=True, slots=True)
class Layer:
    """(outputs, inputs) of the weight, and what follows the product."""

    name: str
    outputs: int
    inputs: int
    is_gated: bool = False
    with_residual: bool = False


def layers_of(spec: ModelSpec) -> tuple[Layer, ...]:
    """The four products of a layer, and what the decoder has in their epilogues."""
    return (
        Layer("qkv", spec.query_size + 2 * spec.key_size, spec.hidden_size),
        Layer("attention out", spec.hidden_size, spec.query_size, with_residual=True),
        Layer("gate and up", 2 * spec.mlp_size, spec.hidden_size, is_gated=True),
        Layer("down", spec.hidden_size, spec.mlp_size, with_residual=True),
    )


def contests(tables: Tables, scale: Scale, device: torch.device) -> Iterator[Contest]:
    for model, spec, counts in MODELS[scale]:
        for layer in layers_of(spec):
            for num_rows in counts:
                yield _contest(tables, f"{model} {layer.name}", layer, num_rows, device)
            if spec is QUANTISED:
                for weights, bits in QUANTISED_BITS.items():
                    for num_rows in QUANTISED_ROWS:
                        yield _quantised(tables, f"{model} {layer.name}", layer, num_rows, device, weights, bits)


def _quantised(
    tables: Tables, name: str, layer: Layer, num_rows: int, device: torch.device, weights: QuantisedType, bits: int
) -> Contest:
    """The same with weights of fewer bits; scales are not counted."""
    plain = _contest({key: table.with_weights(weights) for key, table in tables.items()}, name, layer, num_rows, device)
    num_weights = layer.outputs * layer.inputs
    num_bytes = plain.num_bytes - num_weights * plain.dtype.itemsize + num_weights * bits // 8
    ours = {key: side for key, side in plain.sides.items() if key != "F.linear"}
    peer = {"F.linear, full weights": plain.sides["F.linear"]}
    return replace(plain, size=f"{plain.size}, {weights} weights", num_bytes=num_bytes, sides=ours, others=peer)


def _contest(tables: Tables, name: str, layer: Layer, num_rows: int, device: torch.device) -> Contest:
    dtype = model_dtype(device)
    num_outputs = layer.outputs // 2 if layer.is_gated else layer.outputs

    def inputs() -> tuple[Tensor, Tensor, Tensor | None]:
        x = normal(num_rows, layer.inputs, dtype=dtype, device=device)
        weight = normal(layer.outputs, layer.inputs, dtype=dtype, device=device, seed=1).mul_(layer.inputs**-0.5)
        residual = normal(num_rows, num_outputs, dtype=dtype, device=device, seed=2) if layer.with_residual else None
        return x, weight, residual

    def ours(kernels: Kernels) -> Step:
        x, weight, residual = inputs()
        packed = kernels.pack_linear(weight)
        activation = GATED_SILU if layer.is_gated else None
        return lambda: kernels.linear(x, packed, activation=activation, residual=residual)

    def theirs() -> Step:
        x, weight, residual = inputs()

        def step() -> Tensor:
            y = F.linear(x, weight)
            if layer.is_gated:
                gate, up = y.chunk(2, dim=-1)
                y = F.silu(gate).mul_(up)
            return y if residual is None else residual.add_(y)

        return step

    touched = layer.outputs * layer.inputs + num_rows * (layer.inputs + num_outputs * (3 if layer.with_residual else 1))
    return Contest(
        op="linear",
        size=f"{name}, {num_rows} rows {name_of(dtype)}",
        num_bytes=touched * dtype.itemsize,
        num_operations=2 * num_rows * layer.outputs * layer.inputs,
        sides=sides_of(tables, ours, "linear", "pack_linear") | {"F.linear": theirs},
        dtype=dtype,
    )
