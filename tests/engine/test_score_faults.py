"""Scores from which no token can be chosen: whose fault that is, the request that fails is told."""

from collections.abc import Sequence

import numpy as np
from neighbours import ROOMY, asking, assert_neighbours_never_noticed, engine_with, neighbours, run
from numpy.typing import NDArray
from scripted_engine import make_engine, make_request, noise

from penstock_decoding.catalogue import SHIPPED


def test_nan_of_the_model_is_told_as_the_models() -> None:
    """Even when the chain would have excluded the token that shows it, leaving choices among meaningless numbers."""

    def script(prefix: Sequence[int]) -> NDArray[np.float32]:
        logits = noise(prefix).copy()
        if prefix[0] == 1:
            logits[4] = np.nan
        return logits

    engine = make_engine(ROOMY, script)
    broken = [
        make_request("bare", [1, 2], {}),
        make_request("masked", [1, 2], {"decoding": {"chain": [{"allowed_tokens": [5, 6]}]}}),
    ]
    answers, failures = run(engine, [*broken, *neighbours()])
    assert failures == dict.fromkeys(("bare", "masked"), "the model gave scores that are not finite numbers")
    assert_neighbours_never_noticed(answers)


def test_chain_that_excludes_everything_is_named() -> None:
    catalogue = SHIPPED
    request = asking(
        catalogue, "empty", chain=[{"allowed_tokens": [5]}, {"bad_words": {"words": [[5]]}}, {"temperature": 0.5}]
    )
    answers, failures = run(engine_with(catalogue), [request, *neighbours()])
    assert failures == {"empty": "allowed_tokens, bad_words, temperature left no token to choose"}
    assert_neighbours_never_noticed(answers)
