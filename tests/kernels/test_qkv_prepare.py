"""Bias, norms, rotation and the write to the cache, against the formulas in float64."""

from dataclasses import dataclass

import pytest
import torch
from closeness import assert_close, randn
from kernel_tables import DEVICE, table, tables_of
from torch import Tensor

from penstock_kernels import Kernels
from penstock_kernels.layer_cache import QUANTISED_PEAKS, LayerCache
from penstock_kernels.qkv_prepare import Angles, HeadNorms
from penstock_kernels.qkv_prepare.cases import CASES, Case
from penstock_kernels.tolerance import DTYPES

EPS = 1e-5
TABLES = tables_of("qkv_prepare")


@dataclass(frozen=True)
class Inputs:
    """Of a case. `angles`: [tokens, rotary_size / 2], as they are."""

    qkv: Tensor
    slots: Tensor
    bias: Tensor | None
    norms: HeadNorms | None
    angles: Tensor | None

    def run(self, kernels: Kernels, cache: LayerCache) -> Tensor:
        """The queries; the cache is changed."""
        angles = None
        if self.angles is not None:
            cos, sin = self.angles.cos(), self.angles.sin()
            angles = Angles(torch.cat((cos, cos), dim=-1).unsqueeze(1), torch.cat((-sin, sin), dim=-1).unsqueeze(1))
        return kernels.qkv_prepare(self.qkv.clone(), cache, self.slots, bias=self.bias, norms=self.norms, angles=angles)


def make_inputs(case: Case, dtype: torch.dtype) -> Inputs:
    heads, key_heads, head_size = case.heads
    num_all = heads + 2 * key_heads
    weights = [randn(head_size, dtype=dtype, seed=seed).to(DEVICE) for seed in (3, 4)]
    angles = None
    if case.rotary_size is not None:
        angles = randn(case.num_tokens, case.rotary_size // 2, dtype=torch.float32, seed=1).to(DEVICE) * 10
    return Inputs(
        qkv=randn(case.num_tokens, num_all, head_size, dtype=dtype).to(DEVICE),
        slots=torch.randperm(case.num_slots, generator=torch.Generator().manual_seed(6))[: case.num_tokens].to(DEVICE),
        bias=randn(num_all * head_size, dtype=dtype, seed=2).to(DEVICE) if case.with_bias else None,
        norms=HeadNorms(weights[0], weights[1], EPS) if case.with_norms else None,
        angles=angles,
    )


def expected_qkv(case: Case, inputs: Inputs) -> Tensor:
    """What becomes of the projection, in float64."""
    heads, key_heads, head_size = case.heads
    x = inputs.qkv.double()
    if inputs.bias is not None:
        x = x + inputs.bias.double().view(-1, head_size)
    if inputs.norms is not None:
        weights = (inputs.norms.q_weight, inputs.norms.k_weight)
        for part, weight in zip((slice(0, heads), slice(heads, heads + key_heads)), weights, strict=True):
            x[:, part] *= (x[:, part].square().mean(-1, keepdim=True) + EPS).rsqrt() * weight.double()
    if inputs.angles is not None and case.rotary_size is not None:
        half = case.rotary_size // 2
        turned = torch.complex(x[:, : heads + key_heads, :half], x[:, : heads + key_heads, half : 2 * half])
        angles = inputs.angles.double()
        turned *= torch.polar(torch.ones_like(angles), angles).unsqueeze(1)
        x[:, : heads + key_heads, : 2 * half] = torch.cat((turned.real, turned.imag), dim=-1)
    return x


def quantised_cache(case: Case, dtype: torch.dtype) -> LayerCache:
    """Of zeros, with scales that nothing has written."""
    shape = (case.num_slots, 2, case.heads[1])
    return LayerCache(
        torch.zeros(*shape, case.heads[2], dtype=torch.int8, device=DEVICE).view(dtype),
        torch.full(shape, float("nan"), device=DEVICE),
    )


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_against_the_formulas(case: Case, dtype: torch.dtype, name: str) -> None:
    heads, key_heads, head_size = case.heads
    inputs = make_inputs(case, dtype)
    values = randn(case.num_slots, 2, key_heads, head_size, dtype=dtype, seed=5).to(DEVICE)
    before, expected = values.clone(), expected_qkv(case, inputs)

    q = inputs.run(table(name), LayerCache(values))
    assert_close(q, expected[:, :heads], dtype)
    assert q.dtype == dtype and q.stride(-1) == 1
    stored = values[inputs.slots]
    assert_close(stored, expected[:, heads:].reshape(case.num_tokens, 2, key_heads, head_size), dtype)
    if inputs.bias is None:  # then a value is copied as it is
        assert torch.equal(stored[:, 1], inputs.qkv[:, heads + key_heads :])
    others = torch.ones(case.num_slots, dtype=torch.bool, device=DEVICE).index_fill_(0, inputs.slots, False)
    assert torch.equal(values[others], before[others])


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("dtype", QUANTISED_PEAKS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_quantised(case: Case, dtype: torch.dtype, name: str) -> None:
    """Every key and value comes back to within half a step of its own scale (float8 has 3 bits of mantissa)."""
    heads, key_heads, head_size = case.heads
    qkv = randn(case.num_tokens, heads + 2 * key_heads, head_size, dtype=torch.float32).to(DEVICE)
    qkv[0, heads] = 0  # an all-zero key
    expected = qkv[:, heads:].reshape(case.num_tokens, 2, key_heads, head_size).clone()
    cache, slots = quantised_cache(case, dtype), make_inputs(case, torch.float32).slots
    q = table(name).qkv_prepare(qkv.clone(), cache, slots)
    assert torch.equal(q, qkv[:, :heads])
    assert cache.scales is not None
    scales = cache.scales[slots].unsqueeze(-1)
    error = (cache.values[slots].float() * scales - expected).abs()
    step = scales * (1.0 if dtype == torch.int8 else 0.0) + expected.abs() * (0.0 if dtype == torch.int8 else 2.0**-3)
    assert (error <= 0.501 * step + 1e-3 * scales).all()
    others = torch.ones(case.num_slots, dtype=torch.bool, device=DEVICE).index_fill_(0, slots, False)
    assert cache.scales[others].isnan().all()
    assert (cache.values[others].float() == 0).all()


@pytest.mark.parametrize("name", TABLES[1:])
@pytest.mark.parametrize("dtype", QUANTISED_PEAKS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_quantised_bytes_are_the_references(case: Case, dtype: torch.dtype, name: str) -> None:
    """Of float32. A norm's sum and a rotation may be rounded otherwise, which can move a key by a step, seldom."""
    inputs = make_inputs(case, torch.float32)
    expected, cache = quantised_cache(case, dtype), quantised_cache(case, dtype)
    inputs.run(Kernels.reference(), expected)
    inputs.run(table(name), cache)
    assert expected.scales is not None and cache.scales is not None
    torch.testing.assert_close(cache.scales, expected.scales, rtol=1e-6, atol=0, equal_nan=True)
    differ = cache.values.view(torch.int8) != expected.values.view(torch.int8)
    is_exact = inputs.norms is None and inputs.angles is None
    for part in (0, 1) if is_exact else (1,):
        assert torch.equal(cache.scales[inputs.slots, part], expected.scales[inputs.slots, part])
        assert not differ[:, part].any()
    assert differ.float().mean() <= 2e-3


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("dtype", QUANTISED_PEAKS)
def test_a_quantised_nan_is_not_lost(dtype: torch.dtype, name: str) -> None:
    """int8 has no NaN, so the scale carries it: a fault of the model reaches the logits, and is no number by then."""
    qkv = randn(2, 3, 8, dtype=torch.float32).to(DEVICE)
    qkv[0, 1, 5] = float("nan")
    cache = LayerCache(
        torch.zeros(2, 2, 1, 8, dtype=torch.int8, device=DEVICE).view(dtype), torch.zeros(2, 2, 1, device=DEVICE)
    )
    table(name).qkv_prepare(qkv, cache, torch.tensor([0, 1], device=DEVICE))
    assert cache.scales is not None
    assert cache.scales.isnan().flatten().tolist() == [True, False, False, False]


@pytest.mark.parametrize("name", TABLES[1:])
def test_every_float8(name: str) -> None:
    """Numbers of float8, what lies between two of them and next to that, against torch's conversion."""
    numbers = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    numbers = numbers[~numbers.isnan()].sort().values
    between = (numbers[1:] + numbers[:-1]) / 2
    beside = [between.nextafter(torch.full_like(between, towards)) for towards in (-500.0, 500.0)]
    # A head of 256 features that starts with the largest: its scale is 1.
    x = torch.cat((numbers, between, *beside))
    x = torch.nn.functional.pad(x, (0, -len(x) % 255)).view(-1, 255)
    x = torch.nn.functional.pad(x, (1, 0), value=448.0).unsqueeze(1)
    cache = LayerCache(
        torch.zeros(len(x), 2, 1, 256, dtype=torch.int8, device=DEVICE).view(torch.float8_e4m3fn),
        torch.zeros(len(x), 2, 1, device=DEVICE),
    )
    table(name).qkv_prepare(x.repeat(1, 3, 1).to(DEVICE), cache, torch.arange(len(x), device=DEVICE))
    expected = x.to(torch.float8_e4m3fn).view(torch.int8)
    assert torch.equal(cache.values[:, 0].view(torch.int8).cpu(), expected)


@pytest.mark.parametrize("name", TABLES)
def test_no_tokens(name: str) -> None:
    cache = LayerCache(torch.zeros(4, 2, 1, 8, device=DEVICE))
    slots = torch.empty(0, dtype=torch.int64, device=DEVICE)
    assert table(name).qkv_prepare(torch.empty(0, 4, 8, device=DEVICE), cache, slots).shape == (0, 2, 8)
