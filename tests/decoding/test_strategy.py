"""`StopRule`: when a token ends an answer."""

import numpy as np
import pytest

from penstock_decoding.finish import Finish
from penstock_decoding.strategy import StopRule

OPEN, STOP, LENGTH = Finish.OPEN, Finish.STOP, Finish.LENGTH
TOKENS = np.array([7, 0, 3, 9])


@pytest.mark.parametrize(
    ("num_generated", "min_tokens", "max_tokens", "expected"),
    [
        (1, 0, 10, [OPEN, STOP, OPEN, STOP]),
        (9, 0, 10, [OPEN, STOP, OPEN, STOP]),
        (10, 0, 10, [LENGTH, STOP, LENGTH, STOP]),
        (11, 0, 10, [LENGTH, STOP, LENGTH, STOP]),
        (1, 0, 1, [LENGTH, STOP, LENGTH, STOP]),
        (2, 3, 10, [OPEN, OPEN, OPEN, OPEN]),
        (3, 3, 10, [OPEN, OPEN, OPEN, OPEN]),
        (4, 3, 10, [OPEN, STOP, OPEN, STOP]),
        (2, 3, 2, [LENGTH, LENGTH, LENGTH, LENGTH]),
        (5, 4, 5, [LENGTH, STOP, LENGTH, STOP]),
    ],
)
def test_finishes(num_generated: int, min_tokens: int, max_tokens: int, expected: list[Finish]) -> None:
    """A stop token ends an answer that is long enough, and is the reason even when it is also the last token allowed;
    before min_tokens it is a token like any other; max_tokens ends every answer."""
    rule = StopRule(np.array([0, 9]), min_tokens, max_tokens)
    assert rule.finishes(TOKENS, num_generated).tolist() == expected


def test_no_stop_tokens() -> None:
    """Without stop tokens (ignore_eos) only the length ends an answer."""
    rule = StopRule(np.array([], np.int64), 0, 2)
    assert rule.finishes(TOKENS, 1).tolist() == [OPEN] * 4
    assert rule.finishes(TOKENS, 2).tolist() == [LENGTH] * 4


def test_no_tokens() -> None:
    """No tokens give no reasons."""
    rule = StopRule(np.array([0]), 0, 2)
    assert rule.finishes(np.array([], np.int64), 1).tolist() == []


def test_reasons() -> None:
    """The names that the API gives to reasons; an open answer has none."""
    assert [finish.reason for finish in Finish] == [None, "stop", "length", "abort"]
