"""`Metrics`: what one process counts. One registry per app; the engine's report is read when it is asked for."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from penstock_engine.client_protocol import EngineClient
from penstock_server.figures import Figures, families_of, page
from penstock_server.histogram import Histogram

_FIRST_TOKEN = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_PER_TOKEN = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5)
_LAG = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_WHOLE = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Metrics:
    """The server's own counters and histograms, in seconds."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        self._registry = CollectorRegistry()
        workers = Gauge("penstock_api_workers", "Processes that answer HTTP", registry=self._registry)
        workers.set(1)
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
        lag = self._histogram("event_loop_lag", "By how much a probe of the event loop came late", _LAG)
        # Bound once: these are called for every token.
        self.first_token: Callable[[float], None] = first_token.observe
        self.next_token: Callable[[float], None] = next_token.observe
        self.request_done: Callable[[float], None] = whole.observe
        self.loop_lag: Callable[[float], None] = lag.observe

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...]) -> Histogram:
        histogram = Histogram(f"penstock_{name}_seconds", help_text, buckets)
        self._registry.register(histogram)
        return histogram

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

    def figures(self, heard: float = 0.0) -> Figures:
        """All of it, and the engine's latest report, which came at `heard`."""
        return Figures(families_of(self._registry), self._client.stats, heard)

    def render(self) -> bytes:
        """The page that Prometheus reads, of this process."""
        return page(self.figures(), is_engine_up=self._client.failure is None)
