"""`Metrics`: what /metrics tells Prometheus. One registry per app; the engine's figures are read when scraped."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from penstock_engine.client_protocol import EngineClient

CONTENT_TYPE = CONTENT_TYPE_LATEST

_FIRST_TOKEN = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_PER_TOKEN = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5)
_WHOLE = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Metrics:
    """The server's own counters and histograms, in seconds."""

    def __init__(self, client: EngineClient) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_EngineCollector(client))
        self._responses = Counter(
            "penstock_http_responses", "HTTP responses", ("route", "status"), registry=self._registry
        )
        self._answers = Counter(
            "penstock_answers", "Answers by why they ended", ("finish_reason",), registry=self._registry
        )
        self._aborted = Counter(
            "penstock_aborted_requests", "Requests whose client went away before the end", registry=self._registry
        )
        self._in_flight = Gauge("penstock_http_in_flight", "HTTP requests being answered", registry=self._registry)
        first_token = self._histogram("time_to_first_token", "Until an answer's first token", _FIRST_TOKEN)
        next_token = self._histogram("inter_token_latency", "Between two tokens of an answer", _PER_TOKEN)
        whole = self._histogram("request_duration", "Until the last token of a request", _WHOLE)
        self._per_token = self._histogram(
            "time_per_output_token", "Mean per token of an answer, the first left out", _PER_TOKEN
        )
        # Bound once: these are called for every token.
        self.first_token: Callable[[float], None] = first_token.observe
        self.next_token: Callable[[float], None] = next_token.observe
        self.request_done: Callable[[float], None] = whole.observe

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"penstock_{name}_seconds", help_text, buckets=buckets, registry=self._registry)

    def answer_done(self, reason: str, decode_seconds: float, num_tokens: int) -> None:
        """An answer ended; `decode_seconds` passed since its first token."""
        self._answers.labels(reason).inc()
        if num_tokens > 1:
            self._per_token.observe(decode_seconds / (num_tokens - 1))

    def request_aborted(self) -> None:
        self._aborted.inc()

    def response_begun(self) -> None:
        self._in_flight.inc()

    def response_done(self, route: str, status: int) -> None:
        self._in_flight.dec()
        self._responses.labels(route, str(status)).inc()

    def render(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self._registry)


class _EngineCollector(Collector):
    """The engine's latest report as metrics."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        stats = self._client.stats
        for name, text, value in (
            ("up", "1 while the engine is well", 0 if self._client.failure else 1),
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
