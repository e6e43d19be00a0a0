"""The best of all rows of each search, against putting all of them in order."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from kernel_tables import DEVICE, TABLES, table
from torch import Tensor

from penstock_kernels.best_continuations import NO_TOKEN, fused
from penstock_kernels.best_continuations.cases import CASES

NEVER = -torch.inf
OWN_TABLES = TABLES[:2]  # `fused_invariant` has the same function
TOLERANCE = 3e-6


@pytest.fixture(autouse=True)
def no_numpy_warnings() -> Iterator[None]:
    """The interpreter computes with numpy, which warns of inf - inf where a row holds +inf."""
    with np.errstate(invalid="ignore"):
        yield


def searches(sizes: tuple[int, ...], vocab: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores with few bits, the rows' log-probabilities, and where the searches start; the first row is twice there."""
    random = np.random.default_rng([*sizes, vocab])
    scores = np.round(random.standard_normal((sum(sizes), vocab)) * 6) / 2
    scores[random.random(scores.shape) < 0.1] = NEVER
    scores[:, 0] = 1.0
    logprobs = np.round(random.standard_normal(sum(sizes)) * 4) / 2 - 9
    if sum(sizes) > 1:
        scores[1], logprobs[1] = scores[0], logprobs[0]
    starts = torch.tensor([0, *np.cumsum(sizes).tolist()], device=DEVICE)
    return torch.from_numpy(scores.astype(np.float32)).to(DEVICE), torch.from_numpy(logprobs).to(DEVICE), starts


@pytest.mark.parametrize("name", OWN_TABLES)
@pytest.mark.parametrize(("sizes", "vocab", "count"), CASES)
def test_against_all_in_order(sizes: tuple[int, ...], vocab: int, count: int, name: str) -> None:
    """The sums are the best there are; equal ones stand in the order of rows, scores and ids."""
    scores, logprobs, starts = searches(sizes, vocab)
    rows, tokens, values = table(name).best_continuations(scores, logprobs, starts, count)
    # The op's own log-probabilities decide between sums that are equal but for rounding, so the oracle takes these.
    none = torch.full_like(logprobs, -1, dtype=torch.int64)
    _, ids, own = table(name).token_logprobs(scores, none, vocab)
    exact = scores.double().log_softmax(-1)
    for search, (start, end) in enumerate(zip(starts.tolist(), starts[1:].tolist(), strict=False)):
        candidates = [
            (-(float(logprobs[row]) + value), row, place, token)
            for row in range(start, end)
            for place, (token, value) in enumerate(zip(ids[row].tolist(), own[row].tolist(), strict=True))
        ]
        best = sorted(candidates)[:count]
        expected = [(row, token if total < torch.inf else NO_TOKEN) for total, row, _, token in best]
        found = list(zip(rows[search].tolist(), tokens[search].tolist(), strict=True))
        assert [token for _, token in found] == [token for _, token in expected]
        assert [pair for pair in found if pair[1] != NO_TOKEN] == [pair for pair in expected if pair[1] != NO_TOKEN]
        for (row, token), value in zip(found, values[search].tolist(), strict=True):
            assert value == NEVER if token == NO_TOKEN else abs(value - float(exact[row, token])) < TOLERANCE


@pytest.mark.parametrize("name", OWN_TABLES)
def test_fewer_than_asked_for(name: str) -> None:
    """What is left over is no token, and a search in which nothing is left or nothing is finite has none at all."""
    scores = torch.full((4, 50), NEVER, device=DEVICE)
    scores[0, 7] = scores[1, [3, 4]] = 2.0
    scores[3, 5] = torch.nan
    logprobs = torch.tensor([-1.0, -0.1, 0.0, 0.0], dtype=torch.float64, device=DEVICE)
    rows, tokens, values = table(name).best_continuations(
        scores, logprobs, torch.tensor([0, 2, 3, 4], device=DEVICE), 5
    )
    assert tokens[0].tolist() == [3, 4, 7, NO_TOKEN, NO_TOKEN]
    assert rows[0, :3].tolist() == [1, 1, 0]
    assert tokens[1].tolist() == [NO_TOKEN] * 5
    assert values[0, 3:].tolist() == [NEVER] * 2
    assert ((tokens[2] >= NO_TOKEN) & (tokens[2] < 50)).all()


def test_many_candidates_are_sorted_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit the fused table sorts: what it gives is the same, bit for bit."""
    scores, logprobs, starts = searches((3, 2), 120)
    counted = table("fused").best_continuations(scores, logprobs, starts, 9)
    monkeypatch.setattr(fused, "MAX_CANDIDATES", 0)
    by_sorting = table("fused").best_continuations(scores, logprobs, starts, 9)
    assert all(torch.equal(a, b) for a, b in zip(counted, by_sorting, strict=True))
