"""`Figures`: what one process counted and what it last heard of the engine; `page` tells Prometheus of all processes.

Counters and histograms are summed, and gauges too: each is of what one process has, not of what all share.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from penstock_engine.config import EngineStats

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Family(msgspec.Struct, frozen=True, array_like=True):
    """One metric, with all its labels. `samples`: (name, labels, value)."""

    name: str
    help_text: str
    kind: str
    samples: list[tuple[str, dict[str, str], float]]


class Figures(msgspec.Struct, frozen=True, array_like=True):
    """Those of one process.

    Attributes:
        engine: its latest report.
        heard: when that came, in seconds on the monotonic clock, which all processes of a machine share.
    """

    families: list[Family]
    engine: EngineStats = EngineStats()
    heard: float = 0.0

    def lasting(self) -> "Figures":
        """What stays true of a process that has ended: not how much it has open, nor how the engine is."""
        return Figures([family for family in self.families if family.kind != "gauge"])


def families_of(registry: CollectorRegistry) -> list[Family]:
    """What is registered."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            [(sample.name, dict(sample.labels), sample.value) for sample in metric.samples],
        )
        for metric in registry.collect()
    ]


def summed(figures: Sequence[Figures]) -> Figures:
    """All as one; of the engine, what was heard last."""
    latest = max(figures, key=lambda one: one.heard, default=Figures([]))
    by_name: dict[str, list[Family]] = {}
    for one in figures:
        for family in one.families:
            by_name.setdefault(family.name, []).append(family)
    return Figures([_sum(families) for families in by_name.values()], latest.engine, latest.heard)


def page(figures: Figures, *, is_engine_up: bool) -> bytes:
    """What Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(_Told(figures, is_engine_up))
    return generate_latest(registry)


def _sum(families: Sequence[Family]) -> Family:
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in families:
        for name, labels, value in family.samples:
            key = name, tuple(labels.items())
            if key not in values:
                values[key] = value
            elif name.endswith("_created"):  # when it began to be counted
                values[key] = min(values[key], value)
            else:
                values[key] += value
    first = families[0]
    samples = [(name, dict(labels), value) for (name, labels), value in values.items()]
    return Family(first.name, first.help_text, first.kind, samples)


class _Told(Collector):
    """Gives the figures as they were."""

    def __init__(self, figures: Figures, is_engine_up: bool) -> None:
        self._figures = figures
        self._is_engine_up = is_engine_up

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from _engine_metrics(self._figures.engine, self._is_engine_up)
        for family in self._figures.families:
            metric = Metric(family.name, family.help_text, family.kind)
            for name, labels, value in family.samples:
                metric.add_sample(name, labels, value)
            yield metric


def _engine_metrics(stats: EngineStats, is_up: bool) -> Iterator[Metric]:
    for name, text, value in (
        ("up", "1 while the engine is well", int(is_up)),
        ("requests_running", "Sequences running", stats.num_running),
        ("requests_waiting", "Requests in the queue", stats.num_waiting),
        ("kv_blocks", "Blocks of the KV cache", stats.num_blocks),
        ("kv_blocks_in_use", "Blocks of the KV cache in use", stats.num_blocks_in_use),
        ("last_step_seconds", "Duration of the engine's latest step", stats.last_step_seconds),
    ):
        yield GaugeMetricFamily(f"penstock_engine_{name}", text, value)
    for name, text, count in (
        ("steps", "Engine steps", stats.num_steps),
        ("step_seconds", "Seconds spent in engine steps", stats.total_step_seconds),
        ("preemptions", "Sequences preempted", stats.num_preemptions),
        ("prompt_tokens", "Prompt tokens accepted", stats.num_prompt_tokens),
        ("generated_tokens", "Tokens generated", stats.num_generated_tokens),
        ("prefix_query_tokens", "Prompt tokens looked up in the prefix cache", stats.num_prefix_query_tokens),
        ("prefix_hit_tokens", "Prompt tokens found in the prefix cache", stats.num_prefix_hit_tokens),
    ):
        yield CounterMetricFamily(f"penstock_engine_{name}", text, count)
