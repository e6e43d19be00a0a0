"""The figures as text: rows with the names of `vllm bench serve`, so that two outputs can be laid side by side.

Rows that it does not have stand where they do not part those that it has.
"""

from collections.abc import Sequence

from load.distribution import Distribution
from load.figures import Figures
from load.loads import Load, OpenLoop
from load.measure import Measurement

_WIDTH = 50
_LATENCIES = (
    ("ttft", "TTFT", "Time to First Token"),
    ("tpot", "TPOT", "Time per Output Token (excl. 1st token)"),
    ("itl", "ITL", "Inter-token Latency"),
    ("e2el", "E2EL", "End-to-end Latency"),
    ("queue", "Client Queue Time", "Client-side Queueing"),
    ("queued_latency", "E2EL incl. Client Queue", "Queue-inclusive End-to-end Latency"),
)

_PARTS = (("Mean", "mean"), ("Median", "median"), ("P90", "p90"), ("P99", "p99"), ("Std", "std"))


def result_table(load: Load, figures: Figures) -> str:
    """One load's figures, as `vllm bench serve` prints them, with every percentile and the failures by kind."""
    lines = [f"{' Serving Benchmark Result ':=^{_WIDTH}}"]
    lines.append(_row("Successful requests:", figures.num_completed))
    lines.append(_row("Failed requests:", figures.num_failed))
    for failure in figures.failures:
        status = "" if failure.status in (None, 200) else f" {failure.status}"
        lines.append(_row(f"  {failure.kind}{status}:", failure.count))
    if figures.num_interrupted:
        lines.append(_row("Interrupted requests (not counted):", figures.num_interrupted))
    if load.slots is not None:
        lines.append(_row("Maximum request concurrency:", load.slots))
    if isinstance(load, OpenLoop) and load.amount < float("inf"):
        lines.append(_row("Request rate configured (RPS):", load.amount))
    lines.append(_row("Benchmark duration (s):", figures.duration))
    lines.append(_row("Total input tokens:", figures.num_prompt_tokens))
    lines.append(_row("Total generated tokens:", figures.num_output_tokens))
    lines.append(_row("Request throughput (req/s):", figures.request_rate))
    if figures.good_rate is not None:
        lines.append(_row("Request goodput (req/s):", figures.good_rate))
    lines.append(_row("Output token throughput (tok/s):", figures.output_rate))
    lines.append(_row("Peak output token throughput (tok/s):", figures.peak_output_rate))
    lines.append(_row("Peak concurrent requests:", float(figures.peak_concurrency)))
    lines.append(_row("Total token throughput (tok/s):", figures.token_rate))
    for field, name, title in _LATENCIES:
        distribution: Distribution | None = getattr(figures, field)
        if distribution is None and field in ("queue", "queued_latency"):
            continue
        lines.append(f"{title:-^{_WIDTH}}")
        for part, field_of in _PARTS:
            lines.append(
                _row(f"{part} {name} (ms):", None if distribution is None else getattr(distribution, field_of))
            )
    lines.append("=" * _WIDTH)
    return "\n".join(lines)


def notes(measurement: Measurement) -> list[str]:
    """What a reader must know before using the figures, in plain sentences."""
    figures = measurement.figures
    said = [f"{failure.count} x {failure.kind}: {failure.message}" for failure in figures.failures]
    if figures.num_without_usage:
        said.append(
            f"{figures.num_without_usage} of {figures.num_completed} answers came without usage: "
            "their chunks were counted as tokens"
        )
    if figures.num_completed == 0 and not measurement.is_interrupted:
        said.append("No request succeeded, so there are no latencies")
    if measurement.client_limits:
        limits = "; ".join(measurement.client_limits)
        said.append(
            f"The client was the limit ({limits}; --processes {len(measurement.clients)}): "
            "latencies hold waiting of the client's own. Give it more processes, or a machine of its own"
        )
    return said


def sweep_table(measurements: Sequence[Measurement]) -> str:
    """All loads, a row each; latencies in milliseconds."""
    has_goodput = any(measurement.figures.good_rate is not None for measurement in measurements)
    head = ["load", "ok", "failed", "req/s", "tok/s"]
    head += ["good/s"] if has_goodput else []
    head += [f"{name} {part}" for name in ("TTFT", "TPOT", "E2EL") for part in ("p50", "p99")] + ["client"]
    rows = [head]
    for measurement in measurements:
        figures = measurement.figures
        row = [measurement.load.label, str(figures.num_completed), str(figures.num_failed)]
        row += [f"{figures.request_rate:.2f}", f"{figures.output_rate:.1f}"]
        row += [f"{figures.good_rate or 0.0:.2f}"] if has_goodput else []
        for distribution in (figures.ttft, figures.tpot, figures.e2el):
            row += ["-", "-"] if distribution is None else [f"{distribution.median:.2f}", f"{distribution.p99:.2f}"]
        rows.append([*row, "limit" if measurement.client_limits else "ok"])
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )


def _row(name: str, value: float | int | None) -> str:
    shown = "-" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
    return f"{name:<40} {shown:<10}".rstrip()
