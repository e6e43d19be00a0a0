"""Adds up a contest: medians, ratios of neighbours in a round, and shares of the memory floor."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sides.contest import OURS, Contender, Measurement


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, least and most."""
    known = list(values)
    return {"median": statistics.median(known), "min": min(known), "max": max(known)}


def summarize_latency(measured: Sequence[Measurement], floor: float, answer_length: int) -> dict[str, Any]:
    """Per side: seconds to the first token and per token after it, over all answers; how many times as fast ours is.

    The time to the first token is that of a request for one token, from the call to its return. The time per token of
    an answer of n tokens is what it took beyond its round's median time to the first token, over n - 1.

    Args:
        floor: tokens/s if reading memory were all.
    """
    per_token = {(m.round, m.side): _per_token(m, answer_length) for m in measured}
    first = {(m.round, m.side): m.first_token_seconds for m in measured}
    sides = {}
    for side in _sides(measured):
        median = statistics.median(_of(per_token, side))
        sides[side] = {
            "time_to_first_token": spread(_of(first, side)),
            "time_per_token": spread(_of(per_token, side)),
            "share_of_floor": 1 / (floor * median),
            "first_token_ratio": _ratios(first, side),
            "per_token_ratio": _ratios(per_token, side),
        }
    return {"floor_tokens_per_second": floor, "sides": sides}


def summarize_throughput(measured: Sequence[Measurement], floors: Mapping[str, float]) -> dict[str, Any]:
    """Per side: tokens of answers per second; how many times as many ours gives.

    Args:
        floors: per side, tokens/s if reading memory were all.
    """
    seconds = {(m.round, m.side): [m.seconds[0] / m.num_tokens] for m in measured}
    sides = {}
    for side in _sides(measured):
        rates = spread(1 / value for value in _of(seconds, side))
        sides[side] = {
            "tokens_per_second": rates,
            "floor_tokens_per_second": floors[side],
            "share_of_floor": rates["median"] / floors[side],
            "ratio": _ratios(seconds, side),
        }
    return {"sides": sides}


def summarize_memory(contenders: Sequence[Contender], weight_bytes: int) -> dict[str, Any]:
    """Per side that took part: bytes before the checkpoint was loaded and at the peak; the difference in weights."""
    memory = {}
    for contender in contenders:
        for process in contender.processes:
            baseline, peak = contender.baseline, process.peak()
            above = (peak - baseline) / weight_bytes
            memory[contender.name] = {"baseline": baseline, "peak": peak, "weights_above": above}
    return memory


def _per_token(measurement: Measurement, answer_length: int) -> list[float]:
    first = statistics.median(measurement.first_token_seconds)
    return [(seconds - first) / (answer_length - 1) for seconds in measurement.seconds]


def _sides(measured: Sequence[Measurement]) -> list[str]:
    return list(dict.fromkeys(m.side for m in sorted(measured, key=lambda m: m.round)))


def _of(values: Mapping[tuple[int, str], Sequence[float]], side: str) -> list[float]:
    return [value for (_, name), ours in values.items() if name == side for value in ours]


def _ratios(seconds: Mapping[tuple[int, str], Sequence[float]], side: str) -> dict[str, float] | None:
    """Per round, the side's median seconds over ours; None for ours itself."""
    if side == OURS:
        return None
    rounds = [number for number, name in seconds if name == side]
    return spread(
        statistics.median(seconds[number, side]) / statistics.median(seconds[number, OURS]) for number in rounds
    )
