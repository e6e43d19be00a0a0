"""Log-probabilities in float64, and the best of each row in the order of a sort."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from kernel_tables import DEVICE, TABLES, table
from torch import Tensor

from penstock_kernels.token_logprobs.cases import CASES

NEVER = -torch.inf
OWN_TABLES = TABLES[:2]  # `fused_invariant` has the same function
TOLERANCE = 3e-6  # float32 of scores and their sum, whose magnitude is up to 30


@pytest.fixture(autouse=True)
def no_numpy_warnings() -> Iterator[None]:
    """The interpreter computes with numpy, which warns of inf - inf where a row holds +inf."""
    with np.errstate(invalid="ignore"):
        yield


def rough_scores(num_rows: int, vocab: int) -> Tensor:
    """Many ties, zeros of both signs, a row in which hardly anything is left."""
    random = np.random.default_rng([num_rows, vocab])
    scores = np.round(random.standard_normal((num_rows, vocab)) * 6) / 2
    scores[random.random(scores.shape) < 0.1] = NEVER
    scores[0, 5:] = NEVER
    return torch.from_numpy(scores.astype(np.float32)).to(DEVICE)


@pytest.mark.parametrize("name", OWN_TABLES)
@pytest.mark.parametrize(("num_rows", "vocab", "num_top"), CASES)
def test_against_float64(num_rows: int, vocab: int, num_top: int, name: str) -> None:
    scores = rough_scores(num_rows, vocab)
    scores[-1, -1] = 4.0
    before = scores.clone()
    tokens = torch.arange(num_rows, device=DEVICE) * 7 % vocab
    tokens[num_rows // 2] = -1 if num_rows > 1 else 0
    chosen, top_ids, top_logprobs = table(name).token_logprobs(scores, tokens, num_top)
    logprobs = scores.double().log_softmax(-1).nan_to_num(nan=NEVER, neginf=NEVER)
    expected = torch.where(tokens < 0, NEVER, logprobs.gather(-1, tokens.clamp(min=0)[:, None]).squeeze(-1))
    torch.testing.assert_close(chosen.double(), expected, atol=TOLERANCE, rtol=0)
    for row, ids, values in zip(range(num_rows), top_ids.tolist(), top_logprobs, strict=True):
        own = scores[row].tolist()
        assert ids == sorted(range(vocab), key=lambda i: (-own[i], i))[:num_top]
        torch.testing.assert_close(values.double(), logprobs[row, ids], atol=TOLERANCE, rtol=0)
    assert torch.equal(scores, before)


@pytest.mark.parametrize("name", OWN_TABLES)
@pytest.mark.parametrize("num_top", [3, 70])
def test_a_row_is_its_own_matter(num_top: int, name: str) -> None:
    """The same bits alone; a row of -inf gives -inf, and one that is not finite neither a fault nor a foreign id."""
    scores = rough_scores(5, 200)
    scores[1] = NEVER
    scores[2, 3] = torch.nan
    scores[3, 9] = torch.inf
    tokens = torch.tensor([0, 1, 2, 3, 4], device=DEVICE)
    mixed = table(name).token_logprobs(scores, tokens, num_top)
    for row in (0, 4):
        alone = table(name).token_logprobs(scores[row : row + 1].clone(), tokens[row : row + 1], num_top)
        assert all(torch.equal(a[row : row + 1], b) for a, b in zip(mixed, alone, strict=True))
    assert mixed[0][1] == NEVER
    assert mixed[2][1].tolist() == [NEVER] * num_top
    assert mixed[1].min() >= 0
    assert mixed[1].max() < 200


@pytest.mark.parametrize("name", OWN_TABLES)
def test_no_rows(name: str) -> None:
    none = torch.zeros(0, 50, device=DEVICE)
    chosen, top_ids, top_logprobs = table(name).token_logprobs(none, none[:, 0].long(), 4)
    assert (chosen.shape, top_ids.shape, top_logprobs.shape) == ((0,), (0, 4), (0, 4))
