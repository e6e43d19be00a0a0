"""`Distribution`: mean, spread and percentiles of one kind of latency, as numpy defines them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Distribution:
    """Milliseconds. The deviation is the population's; percentiles are interpolated linearly."""

    mean: float
    median: float
    p90: float
    p99: float
    std: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Distribution | None":
        """None of nothing."""
        if not seconds:
            return None
        values = 1e3 * np.asarray(seconds)
        median, p90, p99 = np.percentile(values, (50, 90, 99))
        return cls(float(values.mean()), float(median), float(p90), float(p99), float(values.std()))
