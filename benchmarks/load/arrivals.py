"""When the requests of an open loop arrive: gamma distributed intervals, of which a Poisson process is one case."""

import math

import numpy as np

_ARRIVALS = 5


def draw_arrivals(num_requests: int, rate: float, burstiness: float, seed: int, series: int) -> list[float]:
    """Seconds from the start at which each request arrives, in order.

    Intervals are gamma distributed with shape `burstiness` and mean `1 / rate`: 1 is a Poisson process, less comes in
    bursts, more is steadier, infinity is a clock's tick. Like `vllm bench serve`, the arrivals are then stretched so
    that the last one comes at `num_requests / rate`, or else the offered load would change with the seed. An infinite
    rate sends all at once.
    """
    if math.isinf(rate):
        return [0.0] * num_requests
    total = num_requests / rate
    if math.isinf(burstiness):
        return [total * (i + 1) / num_requests for i in range(num_requests)]
    rng = np.random.default_rng([seed, series, _ARRIVALS])
    times = np.cumsum(rng.gamma(burstiness, 1 / (rate * burstiness), num_requests))
    # Bursty draws can all be as small as the smallest number: then they are all at once.
    scaled: list[float] = (times * (total / times[-1]) if times[-1] > 0 else np.full(num_requests, total)).tolist()
    return scaled
