"""Bias, norms, rotation and the write to the cache, against the formulas in float64."""

import pytest
import torch
from closeness import assert_close, randn
from torch import Tensor

from penstock_kernels import Kernels
from penstock_kernels.layer_cache import QUANTISED_PEAKS, LayerCache
from penstock_kernels.qkv_prepare import Angles, HeadNorms
from penstock_kernels.qkv_prepare.cases import CASES, Case
from penstock_kernels.tolerance import DTYPES

EPS = 1e-5


def make_angles(case: Case) -> tuple[Tensor, Angles] | None:
    """The angles themselves [tokens, rotary_size / 2], and as the op wants them."""
    if case.rotary_size is None:
        return None
    angles = randn(case.num_tokens, case.rotary_size // 2, dtype=torch.float32, seed=1) * 10
    cos = torch.cat((angles.cos(), angles.cos()), dim=-1).unsqueeze(1)
    return angles, Angles(cos, torch.cat((-angles.sin(), angles.sin()), dim=-1).unsqueeze(1))


def expected_qkv(case: Case, qkv: Tensor, bias: Tensor | None, norms: HeadNorms | None) -> Tensor:
    """What becomes of the projection, in float64."""
    heads, key_heads, head_size = case.heads
    x = qkv.double()
    if bias is not None:
        x = x + bias.double().view(-1, head_size)
    if norms is not None:
        for part, weight in ((slice(0, heads), norms.q_weight), (slice(heads, heads + key_heads), norms.k_weight)):
            x[:, part] *= (x[:, part].square().mean(-1, keepdim=True) + EPS).rsqrt() * weight.double()
    made = make_angles(case)
    if made is not None and case.rotary_size is not None:
        half = case.rotary_size // 2
        turned = torch.complex(x[:, : heads + key_heads, :half], x[:, : heads + key_heads, half : 2 * half])
        turned *= torch.polar(torch.ones_like(made[0], dtype=torch.float64), made[0].double()).unsqueeze(1)
        x[:, : heads + key_heads, : 2 * half] = torch.cat((turned.real, turned.imag), dim=-1)
    return x


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_against_the_formulas(case: Case, dtype: torch.dtype) -> None:
    heads, key_heads, head_size = case.heads
    num_all = heads + 2 * key_heads
    qkv = randn(case.num_tokens, num_all, head_size, dtype=dtype)
    bias = randn(num_all * head_size, dtype=dtype, seed=2) if case.with_bias else None
    weights = [randn(head_size, dtype=dtype, seed=seed) for seed in (3, 4)]
    norms = HeadNorms(weights[0], weights[1], EPS) if case.with_norms else None
    made = make_angles(case)
    values = randn(case.num_slots, 2, key_heads, head_size, dtype=dtype, seed=5)
    before, expected = values.clone(), expected_qkv(case, qkv, bias, norms)
    slots = torch.randperm(case.num_slots, generator=torch.Generator().manual_seed(6))[: case.num_tokens]

    q = Kernels.reference().qkv_prepare(
        qkv, LayerCache(values), slots, bias=bias, norms=norms, angles=None if made is None else made[1]
    )
    assert_close(q, expected[:, :heads], dtype)
    assert q.stride(-1) == 1
    assert_close(values[slots], expected[:, heads:].reshape(case.num_tokens, 2, key_heads, head_size), dtype)
    others = torch.ones(case.num_slots, dtype=torch.bool).index_fill_(0, slots, False)
    assert torch.equal(values[others], before[others])


@pytest.mark.parametrize("dtype", QUANTISED_PEAKS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_quantised(case: Case, dtype: torch.dtype) -> None:
    """Every key and value comes back to within half a step of its own scale (float8 has 3 bits of mantissa)."""
    heads, key_heads, head_size = case.heads
    qkv = randn(case.num_tokens, heads + 2 * key_heads, head_size, dtype=torch.float32)
    qkv[0, heads] = 0  # an all-zero key
    expected = qkv[:, heads:].reshape(case.num_tokens, 2, key_heads, head_size).clone()
    cache = LayerCache(
        torch.zeros(case.num_slots, 2, key_heads, head_size, dtype=dtype),
        torch.full((case.num_slots, 2, key_heads), float("nan")),
    )
    slots = torch.randperm(case.num_slots, generator=torch.Generator().manual_seed(6))[: case.num_tokens]
    Kernels.reference().qkv_prepare(qkv, cache, slots)
    assert cache.scales is not None
    scales = cache.scales[slots].unsqueeze(-1)
    error = (cache.values[slots].float() * scales - expected).abs()
    step = scales * (1.0 if dtype == torch.int8 else 0.0) + expected.abs() * (0.0 if dtype == torch.int8 else 2.0**-3)
    assert (error <= 0.501 * step + 1e-3 * scales).all()
    others = torch.ones(case.num_slots, dtype=torch.bool).index_fill_(0, slots, False)
    assert cache.scales[others].isnan().all()
