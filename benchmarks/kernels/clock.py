"""How long a step takes on the device: replays of a CUDA graph between two events, on inputs that no cache holds.

A step's inputs are made several times over, until together they are larger than the second-level cache by far, and one
graph runs the step on each of them in turn. So every step reads from memory, as the weights and the KV cache of a model
do, and nothing has to be subtracted for emptying the cache in between. Gaps between launches count, as in a model.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from kernels.contest import Side, Step

# The inputs together are so many times the second-level cache.
CACHES = 3
MAX_COPIES = 64
# Of one round, and of all rounds of one side. Five rounds of 10 ms: longer ones gave the same medians to 1 %.
ROUND_SECONDS = 0.01
NUM_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one step: the rounds' median, least and most. how: "graph", "eager" (launches count) or "host"."""

    median: float
    least: float
    most: float
    how: str

    def as_json(self) -> dict[str, Any]:
        return {"seconds": self.median, "min": self.least, "max": self.most, "how": self.how}


def measure(side: Side, num_bytes: int, device: torch.device) -> Timing:
    """Time a side. On a CPU a single step: a sign of life and not a figure."""
    if device.type != "cuda":
        return _once(side())
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    num_copies = min(max(-(-CACHES * cache // max(num_bytes, 1)), 1), MAX_COPIES)
    steps = [side() for _ in range(num_copies)]

    def run() -> None:
        for step in steps:
            step()

    _warm_up(run)
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
    except RuntimeError:  # a peer that waits for the device cannot be captured
        torch.cuda.synchronize()
        return _rounds(run, num_copies, "eager")
    graph.replay()
    return _rounds(graph.replay, num_copies, "graph")


def _warm_up(run: Callable[[], None]) -> None:
    """Compile and choose algorithms, on a stream of its own as graph capture wants it."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()


def _rounds(run: Callable[[], None], num_steps: int, how: str) -> Timing:
    once = _elapsed(run, 1)
    repeats = max(1, round(ROUND_SECONDS / once))
    seconds = [_elapsed(run, repeats) / num_steps for _ in range(NUM_ROUNDS)]
    return Timing(statistics.median(seconds), min(seconds), max(seconds), how)


def _elapsed(run: Callable[[], None], repeats: int) -> float:
    """Seconds of one of `repeats` runs, by the device's clock."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start.record()
    for _ in range(repeats):
        run()
    end.record()
    end.synchronize()
    return max(float(start.elapsed_time(end)) / 1000, 1e-9) / repeats


def _once(step: Step) -> Timing:
    started = time.perf_counter()
    step()
    seconds = time.perf_counter() - started
    return Timing(seconds, seconds, seconds, "host")
