"""One token for each row of scores: temperature, top-k, top-p, min-p and the draw, in one op and without sorting.

    s  <- (s - max(s)) / temperature
    keep the top_k largest s, and what ties with the last of them                      (Fan et al. 2018)
    keep the likeliest tokens whose mass reaches top_p, and what ties with the last    (Holtzman et al. 2020)
    keep what is at least min_p times as likely as the likeliest                       (Nguyen et al. 2024)
    draw by the inverse of the cumulative distribution of what is left, tokens in order of their ids

Each cut sees what the ones before it left. The weight of a token is a whole number: exp(s) in fixed point, from
arithmetic that every machine rounds alike (weights.py). Sums of whole numbers do not depend on their order: a row's
token is the same on a CPU and on a GPU, alone and in any batch, bit for bit.

The uniform number of a draw is Philox4x32-10 (Salmon et al. 2011) of the key `seed` and the counter (position, sample,
0, 0): 53 bits of its first two words.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

NO_TOKEN = -1
"""Instead of a token, where a row holds nothing but -inf."""

NOT_FINITE = -2
"""Instead of a token, where a row holds NaN or +inf."""


@dataclass(frozen=True, slots=True)
class SampleInputs:
    """What each row asks for, all [rows] and contiguous.

    temperature: float32; 0 takes the largest score, of equal ones that with the lowest id, and nothing else counts.
    top_k: int32; 0 keeps all. top_p: float32; 1 keeps all. min_p: float32; 0 keeps all.
    seed: int64. sample: int32. position: int32, of the token to be drawn.
    with_cuts: False promises that no row has a top_k or a top_p, so that nothing is launched to look for them. Known to
        the host, since nothing on the device may be waited for.
    """

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    seed: Tensor
    sample: Tensor
    position: Tensor
    with_cuts: bool = True


class Sample(Protocol):
    """Draws.

    Args:
        scores: [rows, vocab] float32, contiguous; -inf for excluded tokens. Not modified. At most 2^20 tokens.
        inputs: what each row asks for.

    Returns:
        [rows] int64: token ids, `NO_TOKEN` or `NOT_FINITE`.

    Exact: every implementation gives the same tokens for the same bits.
    """

    def __call__(self, scores: Tensor, inputs: SampleInputs) -> Tensor: ...
