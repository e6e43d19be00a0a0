"""Section of `serve_speed.py`: serving over HTTP against transformers' `generate`."""

from pathlib import Path

from reports.drawing import OTHER, OURS, SECOND, new_figure, plain, save
from reports.record import Record
from reports.section import Picture, Section, bullets, provenance, ratio, several, table


def render(record: Record) -> Section:
    settings = record.part("settings")
    peer = record.part("peer")
    lines = record.parts("summary")
    name = record.source.stem
    return Section(
        "Serving over HTTP beside transformers' generate",
        [
            f"`penstock serve` under requests that keep so many streams open, against transformers'"
            f" `generate`, which answers one prompt after the other; in alternation, each ratio of two neighbours."
            f" Shape {settings.text('shape')} with random weights in bf16, prompts of {settings.count('prompt_length')}"
            f" tokens, answers of {settings.count('answer_length')}, {settings.count('threads')} threads each,"
            f" {several(settings.count('rounds'), 'round')}. Measured by `{_command(settings)}`.",
            table(
                [
                    "streams",
                    "HTTP tokens/s",
                    "generate tokens/s",
                    "ratio (min to max)",
                    "goal",
                    "first token ms",
                    "per token ms",
                    "share of memory floor",
                ],
                [_row(line) for line in lines],
            ),
            bullets(
                [
                    *_goals(lines),
                    f"The memory floor is what reading the weights and the keys and values once per step would take at"
                    f" {record.number('read_bandwidth') / 1e9:.1f} GB/s, measured in the same run.",
                    f"OpenMP's threads in generate's process wait by the policy {peer.text('wait_policy')!r}, its"
                    f" fastest here; attention is {peer.text('attention')}.",
                    provenance(record),
                ]
            ),
        ],
        [
            Picture(
                f"{name}.png",
                "Dots: each round's ratio of HTTP serving to generate by number of streams, beside the goals",
                lambda path: _draw(record, path),
            )
        ],
    )


def _command(settings: Record) -> str:
    command = f"python benchmarks/serve_speed.py --shape {settings.text('shape')} --rounds {settings.count('rounds')}"
    return command + (" --all" if len(settings.value.get("concurrencies", [])) > 2 else "")


def _row(line: Record) -> list[str]:
    return [
        str(line.count("concurrency")),
        f"{line.number('http_tokens_per_second'):.1f}",
        f"{line.number('generate_tokens_per_second'):.1f}",
        ratio(line.part("ratio")),
        f"{line.number('goal'):.0f}x" if line.has("goal") else "",
        f"{1e3 * line.number('time_to_first_token'):.0f}",
        f"{1e3 * line.number('time_per_token'):.1f}",
        f"{line.number('share_of_floor'):.0%}",
    ]


def _goals(lines: list[Record]) -> list[str]:
    return [
        f"Goal at {line.count('concurrency')}: at least {line.number('goal'):.0f}x;"
        f" {'met' if line.flag('goal_met') else '**not met**'} (median"
        f" {line.part('ratio').number('median'):.2f}x)."
        for line in lines
        if line.has("goal")
    ]


def _draw(record: Record, path: Path) -> None:
    lines = record.parts("summary")
    figure = new_figure(7, 1.4 + 0.5 * len(lines))
    panel = figure.subplots()
    for row, line in enumerate(lines):
        spread = line.part("ratio")
        pairs = [p for p in record.parts("pairs") if p.count("concurrency") == line.count("concurrency")]
        panel.barh(row, spread.number("median"), 0.5, color=OURS, label="median" if row == 0 else None)
        panel.scatter([p.number("ratio") for p in pairs], [row] * len(pairs), color="black", s=10, zorder=3)
        if line.has("goal"):
            label = "goal" if row == 0 else None
            panel.plot([line.number("goal")] * 2, [row - 0.4, row + 0.4], color=SECOND, linewidth=2, label=label)
        panel.text(spread.number("max"), row, f"  {spread.number('median'):.2f}x", va="center")
    panel.axvline(1.0, color=OTHER, linewidth=0.8)
    panel.set_yticks(range(len(lines)), [f"{line.count('concurrency')} streams" for line in lines])
    panel.invert_yaxis()
    panel.set_xlabel("tokens/s over HTTP, in tokens/s of generate; dots are rounds")
    panel.margins(x=0.12)
    panel.legend(frameon=False)
    plain(panel)
    save(figure, path)
