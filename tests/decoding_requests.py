"""One completion request for each strategy and each processor, and mixtures of them: what a crowd asks for.

The tables name every strategy and every processor that is shipped: `test_decoding_crowd.py` proves it.
"""

import random
from typing import Any

# Index, text, finish reason and score of each answer.
Told = list[tuple[object, ...]]

PROMPTS = (
    "Once upon a time",
    "One sunny morning, a little fox named",
    "What is 3 plus 4?",
    "Once upon a time, in a small house at the edge of the wood, there lived",
)

STRATEGIES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sample": {},
    "beam": {"width": 4, "length_penalty": 0.8},
    "constrained_beam": {"width": 6, "texts": ["fox"]},
    "stochastic_beam": {"width": 3},
}
VARIANTS: list[dict[str, Any]] = [
    {"strategy": "sample", "n": 3},
    {"strategy": "sample", "n": 2, "best_of": 4},
    {"strategy": "beam", "width": 6, "n": 3, "groups": 3, "diversity_penalty": 0.7},
    {"strategy": "beam", "width": 3, "early_stopping": "never", "length_penalty": 1.4},
    {"strategy": "beam", "width": 5, "early_stopping": True, "n": 2},
    {"strategy": "stochastic_beam", "width": 4, "n": 2},
]

PROCESSORS: dict[str, Any] = {
    "grammar": {"regex": "[A-Z][a-z]{3,9}( [a-z]{2,8}){1,4}\\."},
    "allowed_sequences": {"texts": [" a fox.", " a king.", " a king and a queen.", " nobody."]},
    "bad_words": {"texts": ["there", "was"]},
    "allowed_tokens": {"tokens": list(range(300, 700))},
    "no_repeat_ngram": {"size": 3},
    "min_tokens": 8,
    "force_end": 12,
    "logit_bias": {"100": 5, "101": -100},
    "penalties": {"repetition": 1.2, "presence": 0.3, "frequency": 0.2},
    "dry": {"multiplier": 0.8, "allowed_length": 1},
    "temperature": 1.3,
    "dynamic_temperature": {"value": 1.0, "spread": 0.5},
    "adaptive_temperature": {"target": 1.5},
    "top_n_sigma": 1.5,
    "top_h": 0.5,
    "top_k": 20,
    "top_p": 0.8,
    "min_p": 0.05,
    "typical": 0.7,
    "epsilon": 0.01,
    "eta": 0.01,
    "xtc": {"probability": 0.5, "threshold": 0.1},
    "mirostat": {"version": 2, "target": 2.0, "rate": 0.2},
}
MIXED: list[list[dict[str, Any]]] = [
    [{"penalties": {"repetition": 1.1}}, {"temperature": 0.8}, {"top_k": 40}, {"min_p": 0.05}],
    [{"min_p": 0.02}, {"temperature": 1.5}],
    [{"bad_words": {"texts": ["king"]}}, {"dry": {"multiplier": 0.5}}, {"top_p": 0.9}],
    [{"grammar": {"choice": ["yes", "no", "maybe so"]}}, {"temperature": 1.5}],
]


def requests() -> dict[str, dict[str, Any]]:
    """Request bodies by name, each with a seed of its own; all can be served by the demo model."""
    named: dict[str, dict[str, Any]] = {}
    for name, params in STRATEGIES.items():
        named[name] = {"strategy": name, **params}
    for i, variant in enumerate(VARIANTS):
        named[f"{variant['strategy']}, variant {i}"] = variant
    for name, params in PROCESSORS.items():
        named[name] = {"strategy": "sample", "chain": [{name: params}]}
    for i, chain in enumerate(MIXED):
        named[f"chain {i}"] = {"strategy": "sample", "n": 2, "chain": chain}
        named[f"beam with chain {i}"] = {"strategy": "beam", "width": 3, "n": 2, "chain": chain}
    rng = random.Random(4)
    return {
        name: {
            "prompt": PROMPTS[i % len(PROMPTS)],
            "max_tokens": 12 if "force_end" in name else rng.randrange(13, 24),
            "seed": 1000 + i,
            "decoding": decoding,
        }
        for i, (name, decoding) in enumerate(named.items())
    }


def content(reply: dict[str, Any]) -> Told:
    """What the answers of a reply say, without its id and time."""
    return [
        (choice["index"], choice["text"], choice["finish_reason"], choice.get("score"))
        for choice in sorted(reply["choices"], key=lambda choice: int(choice["index"]))
    ]
