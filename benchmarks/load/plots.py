"""Pictures of a result, drawn from its JSON record alone, so that a saved one can be drawn again.

`draw_sweep` shows latency and throughput against load; `draw_timeline` one load over time. PNG, without a display.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Pixels of every picture.
WIDTH, HEIGHT = 1400, 900
_DPI = 100
_PERCENTILES = (("median", "p50", "#1b6ca8"), ("p90", "p90", "#e08e0b"), ("p99", "p99", "#b8336a"))
_WAITING, _PROMPT, _ANSWER, _FAILED = "#c8c8c8", "#e08e0b", "#1b6ca8", "#b8336a"


def draw_plots(record: dict[str, Any], folder: Path, name: str) -> list[Path]:
    """Every picture of a result: `<name>_load.png` of a sweep, and `<name>_timeline_<n>.png` of each load."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    if len(record["loads"]) > 1:
        paths.append(folder / f"{name}_load.png")
        draw_sweep(record, paths[-1])
    for number, load in enumerate(record["loads"]):
        if load["timeline"]["num_requests"]:
            paths.append(folder / f"{name}_timeline_{number}.png")
            draw_timeline(load, paths[-1], record["settings"]["model"])
    return paths


def draw_sweep(record: dict[str, Any], path: Path) -> None:
    """Time to first token, per token and end to end against load, and the throughput that goes with it."""
    loads = record["loads"]
    figure = Figure(figsize=(WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI, layout="constrained")
    figure.suptitle(f"{record['settings']['model']}: latency against load")
    axes = figure.subplots(2, 2)
    ticks = [_amount_label(load["load"]) for load in loads]
    places = _places(loads)
    panels = (
        (axes[0, 0], "ttft", "time to first token (ms)"),
        (axes[0, 1], "tpot", "time per output token (ms)"),
        (axes[1, 0], "e2el", "end-to-end latency (ms)"),
    )
    for panel, field, label in panels:
        _draw_latency(panel, loads, places, field)
        panel.set_ylabel(label)
    _draw_throughput(axes[1, 1], loads, places)
    for panel in axes.flat:
        panel.set_xlabel(loads[0]["load"]["axis"])
        panel.set_xticks(places, ticks)
        panel.grid(alpha=0.3)
        panel.set_ylim(bottom=0)
    figure.savefig(path, format="png", dpi=_DPI)


def draw_timeline(load: dict[str, Any], path: Path, model: str) -> None:
    """One entry of a result's `loads`: requests as bars, and below them tokens per second and requests under way."""
    timeline = load["timeline"]
    figure = Figure(figsize=(WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI, layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    num_shown = len(timeline["sent"])
    figure.suptitle(f"{model}, {load['load']['label']}: {num_shown} of {timeline['num_requests']} requests")
    _draw_requests(top, timeline)
    width = timeline["bucket_seconds"]
    middles = [width * (i + 0.5) for i in range(len(timeline["chunks_per_second"]))]
    bottom.fill_between(middles, timeline["chunks_per_second"], step="mid", color=_ANSWER, alpha=0.4, linewidth=0)
    bottom.set_ylabel("tokens per second")
    bottom.set_xlabel("seconds")
    bottom.set_xlim(left=0)
    bottom.set_ylim(bottom=0)
    bottom.grid(alpha=0.3)
    beside = bottom.twinx()
    beside.plot(middles, timeline["under_way"], drawstyle="steps-mid", color=_FAILED)
    beside.set_ylabel("requests under way", color=_FAILED)
    beside.set_ylim(bottom=0)
    figure.savefig(path, format="png", dpi=_DPI)


def _draw_latency(panel: Axes, loads: Sequence[dict[str, Any]], places: Sequence[float], field: str) -> None:
    """A line per percentile, over the loads that have answers."""
    for name, label, colour in _PERCENTILES:
        points = [
            (place, load["figures"][field][name])
            for place, load in zip(places, loads, strict=True)
            if load["figures"][field] is not None
        ]
        panel.plot([x for x, _ in points], [y for _, y in points], marker="o", color=colour, label=label)
    panel.legend(frameon=False)


def _draw_throughput(panel: Axes, loads: Sequence[dict[str, Any]], places: Sequence[float]) -> None:
    panel.plot(places, [load["figures"]["output_rate"] for load in loads], marker="o", color=_ANSWER)
    panel.set_ylabel("output tokens per second", color=_ANSWER)
    if all(load["figures"]["good_rate"] is None for load in loads):
        return
    beside = panel.twinx()
    rates = [load["figures"]["request_rate"] for load in loads]
    good = [load["figures"]["good_rate"] or 0.0 for load in loads]
    beside.plot(places, rates, marker="s", linestyle="--", color=_PROMPT, label="answered")
    beside.plot(places, good, marker="^", linestyle=":", color=_FAILED, label="within the limits")
    beside.legend(frameon=False)
    beside.set_ylabel("requests per second")
    beside.set_ylim(bottom=0)


def _draw_requests(panel: Axes, timeline: dict[str, Any]) -> None:
    rows = range(len(timeline["sent"]))
    columns = (timeline[name] for name in ("arrived", "sent", "first_token", "finished", "failed"))
    bars: dict[str, list[tuple[int, float, float]]] = {_WAITING: [], _PROMPT: [], _ANSWER: [], _FAILED: []}
    for row, (arrived, sent, first_token, finished, failed) in zip(rows, zip(*columns, strict=True), strict=True):
        bars[_WAITING].append((row, arrived, sent))
        if failed:
            bars[_FAILED].append((row, sent, finished))
        else:
            bars[_PROMPT].append((row, sent, first_token))
            bars[_ANSWER].append((row, first_token, finished))
    labels = {
        _WAITING: "waits in the client",
        _PROMPT: "until the first token",
        _ANSWER: "the other tokens",
        _FAILED: "failed",
    }
    for colour, spans in bars.items():
        if not any(end > begin for _, begin, end in spans):
            continue
        ys = [row for row, _, _ in spans]
        lengths = [end - begin for _, begin, end in spans]
        panel.barh(ys, lengths, left=[begin for _, begin, _ in spans], height=0.8, color=colour, label=labels[colour])
    panel.invert_yaxis()
    panel.set_ylabel("request, in the order of sending")
    if panel.get_legend_handles_labels()[0]:
        panel.legend(frameon=False, loc="lower left")


def _places(loads: Sequence[dict[str, Any]]) -> list[float]:
    """Where loads stand on the axis: at their amounts, or in their order where one is infinite or all are far apart."""
    amounts = [load["load"]["amount"] for load in loads]
    known = [amount for amount in amounts if amount is not None]
    if len(set(known)) < len(amounts) or max(known) > 8 * min(known):
        return [float(i) for i in range(len(amounts))]
    return known


def _amount_label(load: dict[str, Any]) -> str:
    return "all at once" if load["amount"] is None else f"{load['amount']:g}"
