"""The decoder's weights, fused and packed, and how they are put together from any source of values."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from penstock_kernels import Kernels
from penstock_kernels.linear import PackedLinear
from penstock_models.parameters import Module, Parameter, list_parameters
from penstock_models.spec import ModelSpec

Fill = Callable[[Parameter, Tensor], None]


@dataclass(frozen=True, slots=True)
class NormWeights:
    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True, slots=True)
class LinearWeights:
    weight: PackedLinear
    bias: Tensor | None


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One layer. qkv and mlp_in are fused: query, key, value; gate, up."""

    attention_norm: NormWeights
    qkv: LinearWeights
    q_norm: Tensor | None
    k_norm: Tensor | None
    attention_out: LinearWeights
    mlp_norm: NormWeights
    mlp_in: LinearWeights
    mlp_out: LinearWeights


@dataclass(frozen=True, slots=True)
class DecoderWeights:
    """All layers and what surrounds them. `head` is `embedding` itself where they are tied."""

    embedding: Tensor
    positions: Tensor | None
    layers: tuple[LayerWeights, ...]
    final_norm: NormWeights
    head: Tensor
    num_parameters: int


def build_weights(
    spec: ModelSpec, fill: Fill, *, dtype: torch.dtype, device: torch.device, kernels: Kernels
) -> DecoderWeights:
    """Allocate, fill and pack the parameters one by one, so that only the largest matrix needs memory twice.

    Args:
        fill: receives each parameter of `list_parameters(spec)` with an uninitialised tensor of its shape.
    """
    plain: dict[tuple[Module, int | None, str], Tensor] = {}
    packed: dict[tuple[Module, int | None], PackedLinear] = {}
    num_parameters = 0
    # Matrices that packing copies are filled in one place, one after another: fresh memory for each, freed between the
    # packed ones that stay, would leave the heap a seventh larger than the weights.
    scratch = torch.empty(0, dtype=dtype, device=device)
    for parameter in list_parameters(spec):
        size = math.prod(parameter.shape)
        num_parameters += size
        if parameter.layer is not None and parameter.columns is not None:
            if len(scratch) < size:
                scratch = torch.empty(size, dtype=dtype, device=device)
            matrix = scratch[:size].view(parameter.shape)
            fill(parameter, matrix)
            linear = kernels.pack_linear(matrix)
            packed[parameter.module, parameter.layer] = linear
            if linear.weight is matrix:
                scratch = torch.empty(0, dtype=dtype, device=device)
        else:
            values = torch.empty(parameter.shape, dtype=dtype, device=device)
            fill(parameter, values)
            plain[parameter.module, parameter.layer, parameter.kind] = values

    def norm_of(module: Module, layer: int | None) -> NormWeights:
        return NormWeights(plain[module, layer, "weight"], plain.get((module, layer, "bias")))

    def linear_of(module: Module, layer: int) -> LinearWeights:
        return LinearWeights(packed[module, layer], plain.get((module, layer, "bias")))

    def layers() -> Iterable[LayerWeights]:
        for layer in range(spec.num_layers):
            yield LayerWeights(
                attention_norm=norm_of("attention_norm", layer),
                qkv=linear_of("qkv", layer),
                q_norm=plain.get(("q_norm", layer, "weight")),
                k_norm=plain.get(("k_norm", layer, "weight")),
                attention_out=linear_of("attention_out", layer),
                mlp_norm=norm_of("mlp_norm", layer),
                mlp_in=linear_of("mlp_in", layer),
                mlp_out=linear_of("mlp_out", layer),
            )

    embedding = plain["embedding", None, "weight"]
    return DecoderWeights(
        embedding=embedding,
        positions=plain.get(("positions", None, "weight")),
        layers=tuple(layers()),
        final_norm=norm_of("final_norm", None),
        head=plain.get(("head", None, "weight"), embedding),
        num_parameters=num_parameters,
    )
