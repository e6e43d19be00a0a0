"""A row's bits do not depend on what shares its call: real sizes in bf16 on a GPU, small ones under the interpreter.

The rows are compared with the same rows in a call of all of them: alone, in smaller batches, and once more.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from bitwise_sizes import SIZES, TABLES, values
from kernel_tables import DEVICE, table
from torch import Tensor

from penstock_kernels.linear import MlpActivation
from penstock_kernels.sample import SampleInputs

ALL = max(SIZES.batches)


def assert_rows_keep_their_bits(apply: Callable[[slice], Tensor]) -> None:
    """`apply(rows)`: what comes out for these rows in a call of their own."""
    whole = apply(slice(0, ALL))
    assert torch.isfinite(whole).all()
    assert torch.equal(apply(slice(0, ALL)), whole)
    for count in SIZES.batches:
        assert torch.equal(apply(slice(0, count)), whole[:count]), f"{count} rows"
        assert torch.equal(apply(slice(ALL - count, ALL)), whole[ALL - count :]), f"the last {count} rows"
    for row in (0, ALL // 2, ALL - 1):
        assert torch.equal(apply(slice(row, row + 1)), whole[row : row + 1]), f"row {row} alone"


@pytest.mark.parametrize("shape", SIZES.linears, ids=str)
@pytest.mark.parametrize("form", ["plain", "bias", "activation", "gated", "residual"])
def test_linear(shape: tuple[int, int], form: str) -> None:
    kernels = table("fused_invariant")
    outputs, inputs = shape
    packed = kernels.pack_linear(values(outputs, inputs, seed=0) * inputs**-0.5)
    x, residual = values(ALL, inputs, seed=1), values(ALL, outputs, seed=2)
    bias = values(outputs, seed=3) if form == "bias" else None
    activation = {"activation": MlpActivation("gelu_tanh", False), "gated": MlpActivation("silu", True)}.get(form)

    def apply(rows: slice) -> Tensor:
        given = residual[rows].clone() if form == "residual" else None
        return kernels.linear(x[rows].clone(), packed, bias, activation=activation, residual=given)

    assert_rows_keep_their_bits(apply)


def test_logits() -> None:
    kernels = table("fused_invariant")
    size = SIZES.model.hidden_size
    weight, x = values(SIZES.vocab, size, seed=0), values(ALL, size, seed=1)
    assert_rows_keep_their_bits(lambda rows: kernels.logits(x[rows].clone(), weight))


@pytest.mark.parametrize("name", TABLES)
def test_norms_and_activations(name: str) -> None:
    kernels = table(name)
    size = SIZES.model.hidden_size
    x, weight, bias = values(ALL, size, seed=0), values(size, seed=1), values(size, seed=2)
    residual = values(ALL, size, seed=3)
    assert_rows_keep_their_bits(lambda rows: kernels.rms_norm(x[rows].clone(), weight, 1e-5, residual[rows].clone()))
    assert_rows_keep_their_bits(lambda rows: kernels.layer_norm(x[rows].clone(), weight, bias, 1e-5))
    assert_rows_keep_their_bits(lambda rows: kernels.activate(x[rows].clone(), "gelu"))
    assert_rows_keep_their_bits(lambda rows: kernels.gated_activate(x[rows].clone(), "silu"))


@pytest.mark.parametrize("name", TABLES)
def test_sample(name: str) -> None:
    """The same draws too, and those of the reference: weights are whole numbers."""
    scores = values(ALL, SIZES.vocab, seed=0, dtype=torch.float32) * 3
    row = torch.arange(ALL, device=DEVICE)
    inputs = SampleInputs(
        temperature=(0.25 * (row % 5)).float(),
        top_k=(row % 3 * 20).int(),
        top_p=(1 - 0.1 * (row % 4)).float(),
        min_p=(0.01 * (row % 2)).float(),
        seed=row * 2**33 + 7,
        sample=(row % 2).int(),
        position=(row + 5).int(),
    )

    tensors: dict[str, Any] = {
        field.name: value for field in fields(inputs) if isinstance(value := getattr(inputs, field.name), Tensor)
    }

    def apply(rows: slice, name: str = name) -> Tensor:
        per_row = {name: value[rows].clone() for name, value in tensors.items()}
        return table(name).sample(scores[rows].clone(), replace(inputs, **per_row))

    assert_rows_keep_their_bits(apply)
    assert torch.equal(apply(slice(0, ALL)), apply(slice(0, ALL), "reference"))


@pytest.mark.parametrize("name", TABLES)
def test_token_logprobs(name: str) -> None:
    scores = values(ALL, SIZES.vocab, seed=0, dtype=torch.float32)
    tokens = torch.arange(ALL, device=DEVICE) % SIZES.vocab

    def apply(rows: slice) -> Tensor:
        chosen, ids, logprobs = table(name).token_logprobs(scores[rows].clone(), tokens[rows].clone(), 8)
        return torch.cat([chosen[:, None].double(), ids.double(), logprobs.double()], dim=1)

    assert_rows_keep_their_bits(apply)
