"""The parameters of a `ModelSpec`, fused as the decoder holds them: names, parts and shapes. Torch-free."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from penstock_models.spec import LearnedPositions, ModelSpec

Module = Literal[
    "embedding",
    "positions",
    "attention_norm",
    "qkv",
    "q_norm",
    "k_norm",
    "attention_out",
    "mlp_norm",
    "mlp_in",
    "mlp_out",
    "final_norm",
    "head",
]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One tensor of the decoder: [sum(parts), columns], or [sum(parts)] where columns is None.

    parts: rows of each tensor that a checkpoint stores by itself and the decoder stacks, such as query, key and value.
    layer: None outside the layers.
    """

    module: Module
    kind: Literal["weight", "bias"]
    layer: int | None
    parts: tuple[int, ...]
    columns: int | None

    @property
    def shape(self) -> tuple[int, ...]:
        rows = sum(self.parts)
        return (rows,) if self.columns is None else (rows, self.columns)


def list_parameters(spec: ModelSpec) -> Iterator[Parameter]:
    """Every parameter of the decoder, layer by layer, the embedding first."""
    hidden = spec.hidden_size
    yield Parameter("embedding", "weight", None, (spec.vocab_size,), hidden)
    if isinstance(spec.positions, LearnedPositions):
        yield Parameter("positions", "weight", None, (spec.max_positions,), hidden)
    qkv = (spec.query_size, spec.key_size, spec.key_size)
    mlp_in = (spec.mlp_size, spec.mlp_size) if spec.gated_mlp else (spec.mlp_size,)
    for layer in range(spec.num_layers):
        yield from _norm(spec, "attention_norm", layer)
        yield from _linear("qkv", layer, qkv, hidden, spec.qkv_bias)
        if spec.qk_norm:
            yield Parameter("q_norm", "weight", layer, (spec.head_size,), None)
            yield Parameter("k_norm", "weight", layer, (spec.head_size,), None)
        yield from _linear("attention_out", layer, (hidden,), spec.query_size, spec.attention_out_bias)
        yield from _norm(spec, "mlp_norm", layer)
        yield from _linear("mlp_in", layer, mlp_in, hidden, spec.mlp_bias)
        yield from _linear("mlp_out", layer, (hidden,), spec.mlp_size, spec.mlp_bias)
    yield from _norm(spec, "final_norm", None)
    if not spec.tied_head:
        yield Parameter("head", "weight", None, (spec.vocab_size,), hidden)


def _norm(spec: ModelSpec, module: Module, layer: int | None) -> Iterator[Parameter]:
    yield Parameter(module, "weight", layer, (spec.hidden_size,), None)
    if spec.norm == "layer":
        yield Parameter(module, "bias", layer, (spec.hidden_size,), None)


def _linear(module: Module, layer: int, parts: tuple[int, ...], columns: int, bias: bool) -> Iterator[Parameter]:
    yield Parameter(module, "weight", layer, parts, columns)
    if bias:
        yield Parameter(module, "bias", layer, parts, None)
