"""`ClientWatch`: whether the client itself kept up, so that a figure of the server is not one of the client.

Two things are measured in each client process while its load runs: how much later than asked the event loop wakes up
(the *lag*, which every time of an answer can be late by), and the share of a core that the process took.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

INTERVAL = 0.01
# A process that takes more than this of a core is about to fall behind.
MAX_CPU_SHARE = 0.85
# Less than this is within what any busy machine's scheduler does.
MAX_LAG = 0.01
# A lag that is this part of the longest gaps between tokens (p99) is a part of them. A client that is truly the limit
# makes those gaps itself: then the two are about equal.
MAX_LAG_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """One client process during one load. Lags in seconds, the share in cores."""

    num_requests: int
    cpu_share: float
    lag_p50: float
    lag_p99: float
    lag_max: float

    def limits(self, longest_gap: float) -> list[str]:
        """What it was short of, in words; empty when it kept up. `longest_gap`: seconds between tokens, p99."""
        found = []
        if self.cpu_share > MAX_CPU_SHARE:
            found.append(f"a client process took {self.cpu_share:.0%} of a core")
        if self.lag_p99 > max(MAX_LAG, MAX_LAG_SHARE * longest_gap):
            found.append(f"its event loop was {1e3 * self.lag_p99:.1f} ms late (p99)")
        return found


class ClientWatch:
    """Runs beside a load, in its event loop."""

    def __init__(self) -> None:
        self._lags: list[float] = []
        self._started = time.perf_counter()
        self._cpu = time.process_time()

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            asked = time.perf_counter() + INTERVAL
            await asyncio.sleep(INTERVAL)
            self._lags.append(max(0.0, time.perf_counter() - asked))

    def facts(self, num_requests: int) -> ClientFacts:
        """What was seen since the watch was made."""
        seconds = time.perf_counter() - self._started
        share = (time.process_time() - self._cpu) / seconds if seconds > 0 else 0.0
        p50, p99 = _percentiles(self._lags)
        return ClientFacts(num_requests, share, p50, p99, max(self._lags, default=0.0))


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    if not values:
        return 0.0, 0.0
    p50, p99 = np.percentile(values, (50, 99))
    return float(p50), float(p99)
