"""The default chain as a whole against transformers' processors in transformers' order."""

from typing import Any

import pytest
import torch
from decoding_rows import apply_chains, distinct_scores, kept, make_row
from torch import Tensor
from transformers.generation.logits_process import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopHLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from penstock_decoding.params import read_decoding

VOCAB_SIZE = 700
PROMPT, OUTPUT, STOPS = (1, 2, 2, 3), (3, 4, 4), (0, 9)
# Sampling fields as model cards recommend them, and one request that asks for everything.
FIELDS: list[dict[str, Any]] = [
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 0.6, "top_k": 20, "top_p": 0.95},
    {"temperature": 1.5, "min_p": 0.1},
    {"repetition_penalty": 1.2, "top_k": 50},
    {"temperature": 2.0, "top_p": 0.99, "min_p": 0.001},
    {"temperature": 1.3, "top_h": 0.7, "top_p": 0.9},
    {"typical_p": 0.8, "epsilon_cutoff": 3e-3},
    {"temperature": 1.5, "top_k": 90, "typical_p": 0.95, "eta_cutoff": 2e-2},
    {"bad_words_ids": [[5], [4, 4, 6], [9]], "no_repeat_ngram_size": 2, "repetition_penalty": 1.1, "top_p": 0.8},
    {
        "bad_words_ids": [[7], [4, 4, 8]],
        "no_repeat_ngram_size": 1,
        "min_tokens": 9,
        "logit_bias": {"5": 3.0, "600": -100.0},
        "repetition_penalty": 1.3,
        "temperature": 0.8,
        "top_k": 40,
        "top_p": 0.9,
        "min_p": 0.02,
        "top_h": 0.95,
        "typical_p": 0.97,
        "epsilon_cutoff": 1e-3,
        "eta_cutoff": 1e-2,
    },
]


def by_transformers(fields: dict[str, Any], scores: Tensor) -> Tensor:
    """One row of scores after the processors that `generate` would build, in its order."""
    makers: dict[str, Any] = {
        "logit_bias": lambda bias: SequenceBiasLogitsProcessor([[[int(t)], b] for t, b in bias.items()]),
        "repetition_penalty": RepetitionPenaltyLogitsProcessor,
        "no_repeat_ngram_size": NoRepeatNGramLogitsProcessor,
        "bad_words_ids": lambda words: NoBadWordsLogitsProcessor(words, list(STOPS)),
        "min_tokens": lambda count: MinNewTokensLengthLogitsProcessor(len(PROMPT), count, list(STOPS)),
        "temperature": TemperatureLogitsWarper,
        "top_h": TopHLogitsWarper,
        "top_k": TopKLogitsWarper,
        "top_p": TopPLogitsWarper,
        "min_p": MinPLogitsWarper,
        "typical_p": TypicalLogitsWarper,
        "epsilon_cutoff": EpsilonLogitsWarper,
        "eta_cutoff": EtaLogitsWarper,
    }
    chain = LogitsProcessorList([make(fields[name]) for name, make in makers.items() if name in fields])
    result: Tensor = chain(torch.tensor([[*PROMPT, *OUTPUT]]), scores[None])[0]
    return result


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_equals_transformers(seed: int) -> None:
    """All requests in one batch: each row's distribution is that of transformers for its fields."""
    scores = distinct_scores(len(FIELDS), VOCAB_SIZE, seed=seed)
    rows = [
        (
            make_row(i, prompt=PROMPT, output=OUTPUT, stop_token_ids=STOPS),
            read_decoding(fields, vocab_size=VOCAB_SIZE).chain,
        )
        for i, fields in enumerate(FIELDS)
    ]
    ours = apply_chains(rows, scores)
    for i, fields in enumerate(FIELDS):
        theirs = by_transformers(fields, scores[i])
        assert torch.equal(kept(ours[i]), kept(theirs))
        torch.testing.assert_close(ours[i].softmax(-1), theirs.softmax(-1), rtol=1e-5, atol=1e-7)
