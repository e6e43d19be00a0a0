"""Arrivals of an open loop: their mean rate, their burstiness, their reproducibility."""

import math

import numpy as np
import pytest
from load.arrivals import draw_arrivals


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0, math.inf])
def test_the_mean_rate_is_exact(burstiness: float) -> None:
    arrivals = draw_arrivals(500, 20.0, burstiness, seed=1, series=0)
    assert len(arrivals) == 500
    assert arrivals == sorted(arrivals) and arrivals[0] >= 0
    assert arrivals[-1] == pytest.approx(500 / 20.0)


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_intervals_spread_as_the_gamma_distribution_does(burstiness: float) -> None:
    """The squared coefficient of variation of gamma intervals is 1 / burstiness.

    The seed is fixed, so the test gives one outcome for ever. The bounds are six standard errors of the estimate, about
    sqrt((2 + 6 / burstiness) / n) of it: a right generator with another seed would fail about once in 10^8.
    """
    n = 20_000
    intervals = np.diff([0.0, *draw_arrivals(n, 5.0, burstiness, seed=3, series=1)])
    found = (intervals.std() / intervals.mean()) ** 2 * burstiness
    assert abs(found - 1) < 6 * math.sqrt((2 + 6 / burstiness) / n)


def test_poisson_arrivals_leave_e_to_the_minus_one_of_the_slots_empty() -> None:
    """Of slots as long as the mean interval, a share of 1/e stays empty. Six standard errors; the seed is fixed."""
    n = 20_000
    counts, _ = np.histogram(draw_arrivals(n, 1.0, 1.0, seed=5, series=0), bins=np.arange(n + 1))
    empty = float((counts == 0).mean())
    assert abs(empty - math.exp(-1)) < 6 * math.sqrt(math.exp(-1) * (1 - math.exp(-1)) / n)


def test_infinite_burstiness_ticks_like_a_clock() -> None:
    assert draw_arrivals(4, 2.0, math.inf, seed=0, series=0) == [0.5, 1.0, 1.5, 2.0]


def test_an_infinite_rate_sends_all_at_once() -> None:
    assert draw_arrivals(3, math.inf, 1.0, seed=0, series=0) == [0.0, 0.0, 0.0]


def test_seed_and_series_decide() -> None:
    first = draw_arrivals(50, 1.0, 1.0, seed=1, series=0)
    assert draw_arrivals(50, 1.0, 1.0, seed=1, series=0) == first
    assert draw_arrivals(50, 1.0, 1.0, seed=2, series=0) != first
    assert draw_arrivals(50, 1.0, 1.0, seed=1, series=1) != first


def test_bursts_too_fine_for_a_float_are_no_error() -> None:
    arrivals = draw_arrivals(3, 1.0, 1e-6, seed=0, series=0)
    assert all(math.isfinite(after) and after >= 0 for after in arrivals)
