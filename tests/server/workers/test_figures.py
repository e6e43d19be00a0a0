"""What several processes counted, told as what one server did."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from penstock_engine.config import EngineStats
from penstock_server.figures import Figures, families_of, page, summed


def process(route: str, seconds: float, num_open: int) -> Figures:
    """A process that answered one request on this route, in this time, and has so many open."""
    registry = CollectorRegistry()
    Counter("answers", "Answers", ("route",), registry=registry).labels(route).inc()
    Histogram("took", "Seconds", buckets=(1.0, 2.0), registry=registry).observe(seconds)
    Gauge("open", "Open", registry=registry).set(num_open)
    return Figures(families_of(registry), EngineStats(num_steps=num_open), heard=float(num_open))


def told(figures: Figures, *, is_engine_up: bool = True) -> dict[str, float]:
    """Each sample of the page as Prometheus' own parser reads it."""
    text = page(figures, is_engine_up=is_engine_up).decode()
    return {
        sample.name + "".join(f",{value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_everything_is_summed_by_its_labels() -> None:
    got = told(summed([process("/a", 0.5, 2), process("/b", 1.5, 3), process("/a", 9.0, 0)]))
    assert (got["answers_total,/a"], got["answers_total,/b"], got["open"]) == (2, 1, 5)
    assert [got[f"took_bucket,{bound}"] for bound in ("1.0", "2.0", "+Inf")] == [1, 2, 3]
    assert (got["took_count"], got["took_sum"]) == (3, 11)


def test_a_counter_began_when_the_first_of_them_did() -> None:
    first, second = process("/a", 1, 0), process("/a", 1, 0)
    assert told(summed([second, first]))["answers_created,/a"] == told(first)["answers_created,/a"]


def test_of_the_engine_is_told_what_was_heard_last() -> None:
    """A worker that nothing was sent to for a while knows less than the others: counters must not seem to go back."""
    got = told(summed([process("/a", 1, 7), process("/a", 1, 4)]), is_engine_up=False)
    assert (got["penstock_engine_steps_total"], got["penstock_engine_up"]) == (7, 0)


def test_of_a_process_that_ended_only_lasts_what_it_did() -> None:
    got = told(summed([process("/a", 1, 7).lasting(), process("/a", 1, 4)]))
    assert (got["answers_total,/a"], got["took_count"], got["open"]) == (2, 2, 4)
    assert got["penstock_engine_steps_total"] == 4


def test_nothing_counted_is_no_error() -> None:
    assert summed([]) == Figures([])
