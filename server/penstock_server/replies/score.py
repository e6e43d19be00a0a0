"""`/v1/score` replies: what a text's tokens were worth to the model, in sum, on average and one by one."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from penstock_engine.outputs import TokenLogprobs
from penstock_server.replies.layout import shown, top_by_label
from penstock_server.schemas.prompts import Prompt
from penstock_server.scored_text import ScoredText


def score(
    text: ScoredText, read: Sequence[TokenLogprobs], num_top: int | None, label: Callable[[int], str]
) -> dict[str, Any]:
    """What is told of one text. `read`: of its tokens from the first one that counts.

    `num_top`: None for the sums alone. Logarithms are natural. Figures per token are None where no token counts, and
    where they are no finite numbers.
    """
    told = read[: text.end - text.first]
    total = math.fsum(shown(one.chosen) for one in told)
    mean = total / len(told) if told else None
    figures: dict[str, Any] = {
        "log_likelihood": total,
        "mean_log_likelihood": mean,
        "perplexity": None if mean is None else _exp(-mean),
        "bits_per_byte": -total / math.log(2) / text.num_bytes if text.num_bytes else None,
        "num_tokens": len(told),
        "num_bytes": text.num_bytes,
        "is_greedy": all(one.rank == 1 for one in told),
    }
    if num_top is None:
        return figures
    ids = text.counted_ids
    return figures | {
        "logprobs": {
            "tokens": [label(token_id) for token_id in ids],
            "token_logprobs": [shown(one.chosen) for one in told],
            "top_logprobs": [
                top_by_label(token_id, one, label, num_top) for token_id, one in zip(ids, told, strict=True)
            ],
            "text_offset": text.places,
        }
    }


def choice_among(labels: Sequence[Prompt], scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The likeliest of the labels, and of each its score and its share of the probability of all of them."""
    logs = [one["log_likelihood"] for one in scores]
    highest = max(logs)
    weights = [math.exp(log - highest) for log in logs]
    total = math.fsum(weights)
    told = [
        {"label": label, "probability": weight / total, **one}
        for label, weight, one in zip(labels, weights, scores, strict=True)
    ]
    return {"label": labels[logs.index(highest)], "labels": told}


def _exp(exponent: float) -> float | None:
    try:
        return math.exp(exponent)
    except OverflowError:
        return None
