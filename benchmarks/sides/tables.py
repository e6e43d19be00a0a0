"""The tables that `offline.py` prints."""

from collections.abc import Mapping
from typing import Any

from sides.contest import Contender, Measurement

_WIDTH = 20


def print_entry(contender: Contender) -> None:
    """How a side is going to be measured, or why it is not."""
    if not contender.is_present:
        print(f"{contender.name:{_WIDTH}} not available: {contender.reason}", flush=True)
        return
    (process,) = contender.processes
    tried = contender.description["seconds_by_wait_policy"].items()
    times = ", ".join(f"{policy} {seconds:.2f} s" for policy, seconds in tried)
    print(f"{contender.name:{_WIDTH}} OpenMP waits with policy {process.wait_policy!r}; tried: {times}", flush=True)


def print_measurement(setting: str, measurement: Measurement) -> None:
    total = sum(measurement.seconds)
    print(
        f"{measurement.round:5}  {setting:10}  {measurement.side:{_WIDTH}} {measurement.num_tokens:5} tokens in"
        f" {total:6.2f} s  {measurement.num_tokens / total:7.1f} tokens/s  foreign load {measurement.foreign_load:.2f}",
        flush=True,
    )


def print_summary(summary: Mapping[str, Any]) -> None:
    """Figures of every side; ratios say how many times as fast `LLM` is, with the least and the most of the rounds."""
    print(f"\n{'latency':{_WIDTH}} first token ms  per token ms  share of floor  LLM is faster: first token, per token")
    for name, side in summary["latency"]["sides"].items():
        print(
            f"{name:{_WIDTH}} {1e3 * side['time_to_first_token']['median']:14.1f}"
            f"  {1e3 * side['time_per_token']['median']:12.2f}  {side['share_of_floor']:14.0%}"
            f"  {_ratio(side['first_token_ratio'])}, {_ratio(side['per_token_ratio'])}"
        )
    print(f"\n{'throughput':{_WIDTH}} tokens/s  share of floor  LLM is faster")
    for name, side in summary["throughput"]["sides"].items():
        rate = side["tokens_per_second"]["median"]
        print(f"{name:{_WIDTH}} {rate:8.1f}  {side['share_of_floor']:14.0%}  {_ratio(side['ratio'])}")
    print(f"\n{'memory':{_WIDTH}} before MB  peak MB  peak above before, in weights")
    for name, side in summary["memory"].items():
        print(f"{name:{_WIDTH}} {side['baseline'] / 1e6:9.0f}  {side['peak'] / 1e6:7.0f}  {side['weights_above']:8.2f}")


def _ratio(ratio: Mapping[str, float] | None) -> str:
    return "" if ratio is None else f"{ratio['median']:.2f}x ({ratio['min']:.2f} to {ratio['max']:.2f})"
