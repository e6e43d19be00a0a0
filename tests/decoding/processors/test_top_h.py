"""Top-H, by both rules."""

import math

import pytest
import torch
from decoding_rows import NEVER, apply_params, distinct_scores, kept, make_row, same_bits
from transformers.generation.logits_process import TopHLogitsWarper
from truncation_oracles import assert_kept_alike, assert_truncated, float64, top_h_slack

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.top_h import FIRST_LOOK, Rule, TopH, TopHParams

RULES: tuple[Rule, ...] = ("transformers", "paper")


@pytest.mark.parametrize("share", [0.01, 0.2, 0.4, 0.8, 0.99])
@pytest.mark.parametrize(("vocab_size", "spread"), [(30, 2.0), (100, 1.0), (700, 0.5), (700, 4.0)])
def test_equals_transformers(share: float, vocab_size: int, spread: float) -> None:
    """Kept is what the definition in float64 keeps, and what transformers keeps: of the 100 likeliest, by terms."""
    scores = distinct_scores(6, vocab_size, seed=1, spread=spread)
    after = apply_params("top_h", [TopHParams(share)] * 6, scores)
    theirs = TopHLogitsWarper(share)(None, scores)
    for i in range(6):
        slack = top_h_slack(float64(scores[i]), share, "transformers")
        assert_truncated(after[i], scores[i], slack)
        assert_kept_alike(after[i], theirs[i], slack)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.4, 0.8, 0.99])
@pytest.mark.parametrize(("vocab_size", "spread"), [(30, 2.0), (256, 1.0), (700, 0.5), (700, 4.0)])
def test_paper(share: float, vocab_size: int, spread: float) -> None:
    """Kept is the largest set of likeliest tokens with an entropy, among themselves, of at most a share of the whole's,
    also where that set is wider than what is selected at first."""
    scores = distinct_scores(6, vocab_size, seed=2, spread=spread)
    after = apply_params("top_h", [TopHParams(share, "paper")] * 6, scores)
    for i in range(6):
        assert_truncated(after[i], scores[i], top_h_slack(float64(scores[i]), share, "paper"))


def test_by_hand() -> None:
    """1/2, 1/4, 1/8, 1/8 have 1.75 bits, in terms of 0.5, 0.5, 0.375, 0.375. Of 0.6 of it, 1.05, two terms stay; the
    first two, renormalised, have 0.918 bits, the first three 1.379: with 0.6 two stay, and with 0.8 (1.4) three."""
    scores = torch.tensor([[0.125, 0.5, 0.25, 0.125 * (1 - 1e-5)]] * 4).log()
    params = [TopHParams(0.6), TopHParams(0.3), TopHParams(0.6, "paper"), TopHParams(0.8, "paper")]
    after = apply_params("top_h", params, scores)
    assert kept(after).tolist() == [
        [False, True, True, False],
        [False, True, False, False],
        [False, True, True, False],
        [True, True, True, False],
    ]


@pytest.mark.parametrize("rule", RULES)
def test_each_row_its_own_after_exclusions(rule: Rule) -> None:
    """Every row has its own share, wide sets beside narrow ones; entropies are those of the tokens still allowed."""
    scores = torch.cat([distinct_scores(1, 2000, seed=3, spread=s) for s in (4.0, 0.3, 2.0, 0.5)])
    scores[:, ::3] = NEVER
    scores[2, 12:] = NEVER
    shares = [0.4, 0.97, 0.3, 0.9]
    after = apply_params("top_h", [TopHParams(share, rule) for share in shares], scores)
    assert rule == "transformers" or kept(after).sum(-1).amax() > FIRST_LOOK
    for i, share in enumerate(shares):
        assert_truncated(after[i], scores[i], top_h_slack(float64(scores[i]), share, rule))
        assert same_bits(after[i], apply_params("top_h", [TopHParams(share, rule)], scores[i : i + 1])[0])


@pytest.mark.parametrize("rule", RULES)
def test_edge_rows(rule: Rule) -> None:
    """Tied best tokens all stay; one token stays; a row without any, and one of NaN, stay as they are."""
    rows = [[9.0, 9.0, 0.0, NEVER], [NEVER, 3.0, NEVER, NEVER], [NEVER] * 4, [math.nan, 1.0, 2.0, 3.0], [5.0] * 4]
    after = apply_params("top_h", [TopHParams(1e-300, rule)] * len(rows), torch.tensor(rows))
    expected = torch.tensor([[9.0, 9.0, NEVER, NEVER], *rows[1:]])
    # A row of NaN has no order: it must only stay what fails the request.
    torch.testing.assert_close(after[[0, 1, 2, 4]], expected[[0, 1, 2, 4]], rtol=0, atol=0)
    assert after[3].isnan().any()


@pytest.mark.parametrize("rule", RULES)
def test_no_limit_costs_nothing(rule: Rule) -> None:
    """A share of 1 plans no work."""
    assert TopH().plan([Ask(make_row(0), TopHParams(1.0, rule))]) is None


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_range(share: float) -> None:
    """A share outside (0, 1] is refused."""
    with pytest.raises(ParameterError) as caught:
        TopHParams(share)
    assert caught.value.param == "share"
