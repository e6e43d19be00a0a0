"""`Histogram` tells Prometheus what prometheus_client's own tells of the same values."""

import prometheus_client
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from penstock_server.histogram import Histogram

BOUNDS = (0.001, 0.0025, 0.5, 1.0, 2.5)


@given(st.lists(st.sampled_from([0.0, *BOUNDS, 0.0009, 0.3, 7.0]) | st.floats(0, 10), max_size=30))
def test_it_tells_what_the_library_tells(values: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("wait_seconds", "Of a wait", BOUNDS)
    ours.register(histogram)
    other = prometheus_client.Histogram("wait_seconds", "Of a wait", buckets=BOUNDS, registry=theirs)
    for value in values:
        histogram.observe(value)
        other.observe(value)
    lines = [line for line in generate_latest(theirs).decode().splitlines() if "_created" not in line]
    assert generate_latest(ours).decode().splitlines() == lines
