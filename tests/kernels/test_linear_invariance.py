"""The invariant table: a row's bits, alone and among others, in every form of weight."""

from typing import Literal

import pytest
import torch
from closeness import randn
from kernel_tables import DEVICE, IS_INTERPRETED, table
from torch import Tensor

from penstock_kernels.linear import MlpActivation
from penstock_kernels.linear.fused.tiles import num_segments
from penstock_kernels.tolerance import DTYPES

NUM_TOKENS = (1, 2, 8, 33, 256)
HALF = 640
INPUTS = 2 * HALF  # two segments


def weight_and_rows() -> tuple[Tensor, Tensor]:
    """Products of which half cancel: what is left of a sum is its rounding, so that another order shows.

    Within 64 inputs the numbers are small integers of one exponent, so that their sum is exact and only the sums of
    these sums round: Triton's interpreter lets numpy multiply, whose rounding depends on the size of the tile.
    """
    generator = torch.Generator().manual_seed(0)
    exponents = torch.randint(-24, 6, (HALF // 64,), generator=generator).float().exp2().repeat_interleave(64)
    x = torch.randint(-3, 4, (257, HALF), generator=generator) * exponents
    weight = torch.randint(-7, 8, (30, HALF), generator=generator).float()
    order = torch.arange(HALF).view(-1, 128).flip(0).flatten()  # groups of int4 stay whole
    signs = torch.tensor([1.0, -1.0]).repeat_interleave(15)[:, None]  # of gated ones, the gates do not cancel
    weight, x = torch.cat([weight, signs * weight[:, order]], 1), torch.cat([x, x[:, order]], 1)
    return weight.to(DEVICE, torch.float16), x.to(DEVICE, torch.float16)


@pytest.mark.parametrize(
    ("weights", "form"), [("auto", "bare"), ("auto", "gated"), ("int8", "bare"), ("int4", "gated")]
)
def test_a_rows_bits_do_not_depend_on_the_others(
    weights: Literal["auto", "int8", "int4"], form: Literal["bare", "gated"]
) -> None:
    kernels = table("fused_invariant").with_weights(weights)
    weight, x = weight_and_rows()
    packed = kernels.pack_linear(weight)
    activation = MlpActivation("silu", True) if form == "gated" else None
    whole = kernels.linear(x, packed, activation=activation)
    for num_tokens in NUM_TOKENS:
        assert torch.equal(kernels.linear(x[:num_tokens], packed, activation=activation), whole[:num_tokens])
    assert torch.equal(kernels.linear(x[256:], packed, activation=activation), whole[256:])
    # Another order does show.
    assert not torch.equal(table("fused").linear(x[:8], packed, activation=activation), whole[:8])


@pytest.mark.skipif(IS_INTERPRETED, reason="the interpreter's products have other bits in tiles of another size")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weights", ["auto", "int8", "int4"])
def test_any_numbers(weights: Literal["auto", "int8", "int4"], dtype: torch.dtype) -> None:
    kernels = table("fused_invariant").with_weights(weights)
    for outputs, inputs in ((2048, 2048), (960, 576), (1000, 1100)):
        x = randn(2048, inputs, dtype=dtype, seed=1).to(DEVICE)
        packed = kernels.pack_linear(randn(outputs, inputs, dtype=dtype).to(DEVICE))
        whole = kernels.linear(x, packed)
        for num_tokens in (1, 2, 8, 16, 17, 33, 64, 65, 256, 257):
            assert torch.equal(kernels.linear(x[:num_tokens], packed), whole[:num_tokens])
        assert torch.equal(kernels.linear(x[2047:], packed), whole[2047:])


def test_segments_follow_the_layer_alone() -> None:
    """Enough programs for every multiprocessor at the layers of a 1B and an 8B Llama and of Qwen3-0.6B."""
    layers = {(2048, 2048): 4, (2048, 8192): 4, (8192, 2048): 1, (4096, 4096): 2, (4096, 14336): 2, (1024, 3072): 4}
    assert {layer: num_segments(*layer) for layer in layers} == layers
    assert num_segments(30, INPUTS) == 2
    assert num_segments(128256, 4096) == num_segments(1, 5) == 1


def test_programs_are_counted_anew_in_every_product() -> None:
    """The counters are zero again after a product; else the next one would end before its last segment came."""
    weight, x = weight_and_rows()
    kernels = table("fused_invariant")
    packed = kernels.pack_linear(weight)
    first = kernels.linear(x[:3], packed)
    assert torch.equal(kernels.linear(x[:3], packed), first)
    assert not packed.form.arrivals.any()
