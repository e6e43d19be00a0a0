"""`sample` in torch: the specification, with sorting."""

import torch
from torch import Tensor

from penstock_kernels.sample import NO_TOKEN, NOT_FINITE, SampleInputs
from penstock_kernels.sample.uniforms import uniforms
from penstock_kernels.sample.weights import ONE, keys, scaled, weights

NO_CUT = 2**31 - 1


def sample(scores: Tensor, inputs: SampleInputs) -> Tensor:
    """See `Sample`."""
    peaks = scores.amax(-1)
    is_drawable = peaks.isfinite()
    # Rows without a token stay out of the arithmetic: -inf - -inf is NaN.
    clean = scores.where(is_drawable[:, None], 0.0)
    x = scaled(clean, peaks.where(is_drawable, 0.0), inputs.temperature)
    weight = weights(x)
    key = keys(x)
    weight = weight.where(key <= _top_k_cut(key, inputs.top_k), 0)
    weight = weight.where(key <= _top_p_cut(key, weight, inputs.top_p), 0)
    weight = weight.where(weight >= (inputs.min_p.double() * ONE).ceil().long()[:, None], 0)
    drawn = draw(weight, uniforms(inputs.seed, inputs.sample, inputs.position))
    token = torch.where(inputs.temperature == 0, _first_best(scores, peaks), drawn)
    fault = torch.where(peaks == -torch.inf, NO_TOKEN, NOT_FINITE)
    return token.where(is_drawable, fault)


def draw(weight: Tensor, uniform: Tensor) -> Tensor:
    """The first token whose cumulative weight exceeds `uniform` times the whole.

    Args:
        weight: [rows, vocab] int64, not all 0.
        uniform: [rows] float64 in [0, 1).
    """
    reached = weight.cumsum(-1)
    total = reached[:, -1]
    target = (uniform * total.double()).long().minimum(total - 1)
    return (reached <= target[:, None]).sum(-1)


def _top_k_cut(key: Tensor, top_k: Tensor) -> Tensor:
    """The key of the top_k-th largest score, [rows, 1]."""
    place = (top_k.long() - 1).clamp(0, key.shape[1] - 1)
    kth = key.sort(-1).values.gather(-1, place[:, None])
    return kth.where(top_k[:, None] > 0, NO_CUT)


def _top_p_cut(key: Tensor, weight: Tensor, top_p: Tensor) -> Tensor:
    """The key of the token with which the mass reaches top_p of the whole, [rows, 1]."""
    ordered, order = key.sort(-1)
    reached = weight.gather(-1, order).cumsum(-1)
    goal = (top_p.double() * reached[:, -1].double()).ceil().long()
    place = (reached < goal[:, None]).sum(-1, keepdim=True)
    return ordered.gather(-1, place.clamp(max=key.shape[1] - 1)).where(top_p[:, None] < 1, NO_CUT)


def _first_best(scores: Tensor, peaks: Tensor) -> Tensor:
    vocab_size = scores.shape[1]
    ids = torch.arange(vocab_size, device=scores.device)
    return torch.where(scores == peaks[:, None], ids, vocab_size).amin(-1)
