"""Section of `serving.py`: latency and throughput of a server under load. Its pictures are the benchmark's own."""

from load.plots import draw_sweep, draw_timeline

from reports.record import Record
from reports.section import Picture, Section, bullets, provenance, table

_LATENCIES = ("ttft", "tpot", "e2el")
# The flags of the benchmark that give its loads, by their kind.
_FLAGS = {"ClosedLoop": "--concurrency", "OpenLoop": "--rate", "Traced": "--trace FILE --speed"}


def render(record: Record) -> Section:
    settings = record.part("settings")
    loads = record.parts("loads")
    return Section(
        "Serving under load",
        [
            f"{_server(settings)}, under load by `benchmarks/serving.py`; definitions are those of `vllm bench serve`."
            f" Measured by `{_command(settings, loads)}`.",
            table(
                [
                    "load",
                    "answers",
                    "failed",
                    "requests/s",
                    "tokens/s",
                    "first token ms: p50, p99",
                    "per token ms: p50, p99",
                    "whole answer ms: p50, p99",
                ],
                [_row(load) for load in loads],
            ),
            bullets([*_remarks(record, loads), provenance(record)]),
        ],
        _pictures(record, loads),
    )


def _server(settings: Record) -> str:
    what = "`penstock serve`" if settings.flag("serves_itself") else "A server"
    text = f"{what} with the model {settings.text('model')}"
    if settings.has("input_len") and settings.has("output_len"):
        text += f", prompts of {settings.count('input_len')} tokens, answers of {settings.count('output_len')}"
    return text


def _command(settings: Record, loads: list[Record]) -> str:
    first = loads[0].part("load")
    amounts = [load.part("load") for load in loads]
    given = ",".join(f"{load.number('amount'):g}" if load.has("amount") else "inf" for load in amounts)
    kind = first.text("kind")
    if kind not in _FLAGS:
        first.refuse("kind", f"one of {', '.join(_FLAGS)}")
    words = ["python benchmarks/serving.py", _FLAGS[kind], given]
    if settings.has("served") and settings.text("served") != "demo":
        words[1:1] = ["--serve", settings.text("served")]
    for name in ("input_len", "output_len", "num_requests"):
        if settings.has(name):
            flag = "num-prompts" if name == "num_requests" else name.replace("_", "-")
            words += [f"--{flag}", str(settings.count(name))]
    return " ".join(words)


def _row(load: Record) -> list[str]:
    figures = load.part("figures")
    return [
        load.part("load").text("label"),
        str(figures.count("num_completed")),
        str(figures.count("num_failed")),
        f"{figures.number('request_rate'):.2f}",
        f"{figures.number('output_rate'):.1f}",
        *(_percentiles(figures, name) for name in _LATENCIES),
    ]


def _percentiles(figures: Record, name: str) -> str:
    if not figures.has(name):
        return "none"
    part = figures.part(name)
    return f"{part.number('median'):.1f}, {part.number('p99'):.1f}"


def _remarks(record: Record, loads: list[Record]) -> list[str]:
    remarks = []
    if record.flag("is_partial"):
        remarks.append("**The run was stopped before its end.**")
    if record.flag("client_is_limit"):
        limited = [load.part("load").text("label") for load in loads if load.part("client").flag("is_limit")]
        remarks.append(f"**The client was the limit at {', '.join(limited)}: the server may be faster than that.**")
    else:
        remarks.append("The client was at no load the limit.")
    failed = sum(load.part("figures").count("num_failed") for load in loads)
    remarks.append(f"**{failed} requests failed.**" if failed else "No request failed.")
    return remarks


def _pictures(record: Record, loads: list[Record]) -> list[Picture]:
    """The sweep, if there is one, and the timeline of the last load."""
    name, last = record.source.stem, loads[-1]
    model = record.part("settings").text("model")
    pictures = []
    if len(loads) > 1:
        meaning = "Lines: time to first token, per token and end to end, and throughput, against load"
        pictures.append(Picture(f"{name}_load.png", meaning, lambda path: draw_sweep(record.value, path)))
    if last.part("timeline").count("num_requests"):
        meaning = f"Bars: requests over time at {last.part('load').text('label')}; tokens per second below"
        pictures.append(Picture(f"{name}_timeline.png", meaning, lambda path: draw_timeline(last.value, path, model)))
    return pictures
