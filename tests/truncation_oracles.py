"""What the truncating processors do by their definitions: slow, in float64, for one row of scores at a time.

Each oracle tells how far every token is from the border, its *slack*: above 0 it stays, below 0 it goes. Tests leave a
token alone whose slack is smaller than what rounding in float32 can move.
"""

import numpy as np
from decoding_rows import NEVER
from numpy.typing import NDArray
from torch import Tensor

Row = NDArray[np.float64]
ROUNDING = 2e-5  # of a slack, in the units of its oracle: nats, bits, scores or mass


def float64(scores: Tensor) -> Row:
    """One row of scores."""
    return np.asarray(scores.double().numpy())


def law(scores: Row) -> Row:
    """The probabilities of one row of scores."""
    weights: Row = np.exp(scores - scores.max())
    total: float = weights.sum()
    return weights / total


def log_law(scores: Row) -> Row:
    """Their logarithms."""
    with np.errstate(divide="ignore"):
        return np.log(law(scores))


def entropy(scores: Row) -> float:
    """The entropy of one row of scores in nats."""
    p = law(scores)
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def with_likeliest(slack: Row, scores: Row) -> Row:
    """The likeliest tokens stay in any case, and excluded ones never come back."""
    slack = np.where(scores == scores.max(), np.inf, slack)
    return np.where(scores == NEVER, -np.inf, slack)


def epsilon_slack(scores: Row, cutoff: float) -> Row:
    """p >= epsilon."""
    return with_likeliest(log_law(scores) - np.log(cutoff), scores)


def eta_slack(scores: Row, cutoff: float) -> Row:
    """p >= min(epsilon, sqrt(epsilon) exp(-H))."""
    eta = min(cutoff, np.sqrt(cutoff) * np.exp(-entropy(scores)))
    return with_likeliest(log_law(scores) - np.log(eta), scores)


def top_n_sigma_slack(scores: Row, deviations: float) -> Row:
    """s >= max(s) - n std(s), of the tokens not excluded."""
    return with_likeliest(scores - (scores.max() - deviations * np.std(scores[scores > NEVER])), scores)


def typical_slack(scores: Row, mass: float) -> Row:
    """The mass of all tokens nearer to the entropy is below p."""
    p, distance = law(scores), np.abs(-log_law(scores) - entropy(scores))
    order = np.argsort(distance, kind="stable")
    nearer = np.searchsorted(distance[order], distance)  # how many tokens are nearer than each
    slack = mass - np.append(0.0, np.cumsum(p[order]))[nearer]
    return np.where(scores == NEVER, -np.inf, slack)


def top_h_slack(scores: Row, share: float, rule: str) -> Row:
    """The entropy of the likeliest tokens up to and with this one is at most a share of the whole's."""
    order = np.argsort(-scores, kind="stable")
    slack = np.full(len(scores), -np.inf)
    if rule == "transformers":
        order = order[:100]
        p = law(scores[order])
        terms = np.array([-q * np.log(q) if q > 0 else 0.0 for q in p])
        slack[order] = share * terms.sum() - np.cumsum(terms)
    else:
        allowed = share * entropy(scores)
        slack[order] = [allowed - entropy(scores[order[: i + 1]]) for i in range(len(order))]
    return with_likeliest(slack, scores)


def mirostat_2_slack(scores: Row, mu: float) -> Row:
    """The surprise in bits is at most mu."""
    return with_likeliest(mu + log_law(scores) / np.log(2), scores)


def mirostat_1_rank(scores: Row, mu: float) -> float:
    """k before rounding down, by Zipf's law with the exponent fitted to the 100 likeliest tokens."""
    p = np.sort(law(scores))[::-1][:100]
    above = below = 0.0
    for i in range(len(p) - 1):
        if p[i + 1] > 0:
            t, b = np.log((i + 2) / (i + 1)), np.log(p[i] / p[i + 1])
            above, below = above + t * b, below + t * t
    s = above / below
    return float(((s - 1) * 2**mu / (1 - len(scores) ** (1 - s))) ** (1 / s))


def assert_truncated(
    after: Tensor, before: Tensor, slack: Row, rounding: float = ROUNDING, most_unclear: int = 2
) -> None:
    """One row: kept as the oracle says, kept scores unchanged bit for bit; most tokens are clear of the border."""
    is_kept, clear = after.numpy() > NEVER, np.abs(slack) > rounding
    assert (~clear).sum() <= most_unclear
    assert (is_kept[clear] == (slack > 0)[clear]).all()
    assert (after.numpy()[is_kept] == before.numpy()[is_kept]).all()
    assert is_kept.any()


def assert_kept_alike(a: Tensor, b: Tensor, slack: Row) -> None:
    """One row: two results keep the same tokens, but for one within rounding of the border."""
    clear = np.abs(slack) > ROUNDING
    assert ((a.numpy() > NEVER)[clear] == (b.numpy() > NEVER)[clear]).all()
