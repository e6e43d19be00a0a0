"""Tokens of a row without replacement, by the order of their Gumbel-perturbed log-probabilities (Gumbel top-k).

Perturbing a log-probability phi by Gumbel noise gives G = -log(E) with E exponential of rate exp(phi): the tokens' E
are the times at which they arrive in a race. The arrivals are drawn one after the other: the next token is drawn in
proportion to what the tokens still running have, and the time until it comes is exponential with their sum as its rate.
That is the same joint law as noise for every token of the vocabulary, from two random numbers for each token that is
kept, and it makes the conditioning on the row's own G easy: the first arrival is at exp(-G), and the rest goes on from
there.

Source: Kool, van Hoof, Welling, "Stochastic Beams and Where to Find Them" (2019), sections 3 and 4.1.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penstock_decoding.draws import NO_TOKEN, PerturbedTokens
from penstock_decoding.philox import Stream, uniforms
from penstock_decoding.processor import Row
from penstock_decoding.race import Race

# The counter's 32-bit word for the sample index holds the row's rank above, the arrival's number below.
_RANK_SHIFT = 16

# Random numbers that are made in one go, over all rows.
_NUMBERS_AT_ONCE = 2048

Numbers = NDArray[np.float64]
Arrivals = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float64]]


def perturbed_tokens(scores: Tensor, rows: Sequence[tuple[Row, PerturbedTokens]]) -> list[Arrivals]:
    """For each row its tokens, their processed log-probabilities and their perturbed log-probabilities.

    Args:
        scores: [rows, vocab] float32, one per row asked; excluded tokens are -inf.
        rows: the row behind each, and what is asked.

    Returns:
        Per row three arrays [count]. Where fewer tokens are left, or above the floor, the others are `NO_TOKEN`, -inf
        and -inf.
    """
    # A row without any token has no softmax.
    race = Race(scores.log_softmax(-1).nan_to_num_(nan=-torch.inf, neginf=-torch.inf))
    counts = np.asarray([asked.count for _, asked in rows])
    floors = np.asarray([asked.floor for _, asked in rows])
    origins = np.asarray([asked.logprob for _, asked in rows])
    peaks = np.asarray([asked.peak for _, asked in rows])
    shape = len(rows), int(counts.max())
    tokens = np.full(shape, NO_TOKEN, np.int64)
    logprobs, perturbed = np.full(shape, -np.inf, np.float32), np.full(shape, -np.inf)
    which, waits = np.zeros((len(rows), 0)), np.zeros((len(rows), 0))
    # Logarithms of times, in units in which the row's own rate is 1: a search hundreds of tokens deep has
    # probabilities that float64 does not.
    clock = np.where(np.isnan(peaks), -np.inf, origins - peaks)
    is_due = ~np.isnan(peaks)  # the first arrival's time is given
    last = np.where(is_due, peaks, np.inf)
    going = np.arange(len(rows))
    for i in range(shape[1]):
        going = going[counts[going] > i]
        rates = race.log_rates(going)
        going, rates = going[rates > -np.inf], rates[rates > -np.inf]
        if i == which.shape[1]:
            which, waits = _more_numbers(which, waits, rows, going, shape[1])
        later = np.logaddexp(clock[going], np.log(waits[going, i]) - rates)
        clock[going] = np.where(is_due[going], clock[going], later)
        # The given value itself, and nothing above it, whatever the way there and back has rounded.
        last[going] = np.where(is_due[going], last[going], np.minimum(last[going], origins[going] - clock[going]))
        is_due[:] = False
        going = going[last[going] >= floors[going]]
        if not len(going):
            break
        tokens[going, i], logprobs[going, i] = race.take(going, which[going, i])
        perturbed[going, i] = last[going]
    return [(tokens[i, :count], logprobs[i, :count], perturbed[i, :count]) for i, count in enumerate(counts)]


def _more_numbers(
    which: Numbers, waits: Numbers, rows: Sequence[tuple[Row, PerturbedTokens]], going: NDArray[np.int64], most: int
) -> tuple[Numbers, Numbers]:
    """Both tables with numbers for some more arrivals of the rows that are going.

    For each arrival a uniform number in [0, 1) says which token it is, and an exponential one how long it takes.
    """
    done = which.shape[1]
    size = min(most - done, max(1, _NUMBERS_AT_ONCE // max(1, len(going))))
    seeds = np.repeat(np.asarray([rows[i][0].seed for i in going], np.int64), size)
    positions = np.repeat(np.asarray([rows[i][0].position for i in going], np.int64), size)
    ranks = np.repeat(np.asarray([rows[i][1].rank for i in going], np.int64), size)
    samples = (ranks << _RANK_SHIFT) + np.tile(np.arange(done, done + size), len(going))
    new = np.zeros((2, len(rows), size))
    new[0, going] = uniforms(seeds, samples, positions, Stream.RACE_TOKEN).reshape(-1, size)
    time = uniforms(seeds, samples, positions, Stream.RACE_TIME).reshape(-1, size)
    new[1, going] = np.maximum(-np.log1p(-time), 2.0**-54)  # never 0, which has no logarithm
    return np.concatenate((which, new[0]), 1), np.concatenate((waits, new[1]), 1)
