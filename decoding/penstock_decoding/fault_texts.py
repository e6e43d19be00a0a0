"""What a caller is told when a row cannot be drawn from."""

from collections.abc import Sequence

from penstock_decoding.params import Step

MODEL_NOT_FINITE = "the model gave scores that are not finite numbers"


def nothing_left(chain: Sequence[Step]) -> str:
    """Every token is excluded."""
    return f"{_who(chain)} left no token to choose"


def not_finite(chain: Sequence[Step]) -> str:
    """The scores hold NaN or +inf."""
    return f"{_who(chain)} gave scores that are not finite numbers"


def _who(chain: Sequence[Step]) -> str:
    return ", ".join(step.name for step in chain) or "the model"
