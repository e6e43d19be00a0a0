"""`PerParams`."""

from penstock_decoding.per_params import PerParams
from penstock_decoding.processors.allowed_tokens import AllowedTokensParams


def test_made_once_for_each_object() -> None:
    """The same object is prepared once, an equal one anew."""
    made: list[AllowedTokensParams] = []

    def make(params: AllowedTokensParams) -> int:
        made.append(params)
        return len(made)

    prepared = PerParams(make)
    first, second = AllowedTokensParams((1,)), AllowedTokensParams((1,))
    assert [prepared.of(params) for params in (first, second, first, first, second)] == [1, 2, 1, 1, 2]


def test_forgets_the_least_recently_used() -> None:
    """No more objects are kept than the bound, and one that comes again after it was forgotten is prepared again."""
    made: list[int] = []
    prepared: PerParams[AllowedTokensParams, None] = PerParams(lambda params: made.append(params.tokens[0]), max_kept=2)
    a, b, c = (AllowedTokensParams((i,)) for i in range(3))
    for params in (a, b, a, c, a, b):
        prepared.of(params)
    assert made == [0, 1, 2, 1]


def test_no_identity_is_taken_over() -> None:
    """Objects that come and go may share an address, one after the other: none gets what was made for another."""
    prepared: PerParams[AllowedTokensParams, int] = PerParams(lambda params: params.tokens[0], max_kept=3)
    for i in range(1000):
        assert prepared.of(AllowedTokensParams((i,))) == i
