"""Section of `loading.py`: peak memory of loading, over the bytes of the weights."""

from pathlib import Path

from reports.drawing import OTHER, OURS, SECOND, new_figure, plain, save
from reports.record import Record
from reports.section import Picture, Section, bullets, provenance, table


def render(record: Record) -> Section:
    runs = record.parts("runs")
    weights = record.number("weight_bytes")
    is_met = "met" if record.flag("goal_met") else "**not met**"
    name = record.source.stem
    return Section(
        "Memory while loading",
        [
            f"The most memory that a fresh process holds while it loads a checkpoint of {weights / 1e6:.0f} MB (shape"
            f" {record.text('shape')}, bf16), above what it held after its imports, over the bytes of the weights."
            f" Measured by `python benchmarks/loading.py --shape {record.text('shape')} --repeats {len(runs)}`.",
            table(
                ["run", "peak", "after loading", "seconds"],
                [
                    [
                        str(number),
                        f"{run.number('peak_ratio'):.3f}x",
                        f"{run.number('after_ratio'):.3f}x",
                        f"{run.number('seconds'):.2f}",
                    ]
                    for number, run in enumerate(runs, 1)
                ],
            ),
            bullets(
                [
                    f"Goal: at most {record.number('goal'):.2f}x at the peak; {is_met}, at worst"
                    f" {record.number('worst_peak_ratio'):.3f}x.",
                    provenance(record),
                ]
            ),
        ],
        [
            Picture(
                f"{name}.png",
                "Bars: peak memory and memory after loading of each run, over the weights, beside the goal",
                lambda path: _draw(record, path),
            )
        ],
    )


def _draw(record: Record, path: Path) -> None:
    runs = record.parts("runs")
    figure = new_figure(7, 1.2 + 0.4 * len(runs))
    panel = figure.subplots()
    rows = range(len(runs))
    panel.barh([i - 0.2 for i in rows], [run.number("peak_ratio") for run in runs], 0.38, color=OURS, label="peak")
    panel.barh([i + 0.2 for i in rows], [run.number("after_ratio") for run in runs], 0.38, color=OTHER, label="after")
    panel.axvline(1.0, color="black", linewidth=0.8)
    panel.axvline(record.number("goal"), color=SECOND, linestyle="--", label="goal")
    panel.set_yticks(rows, [f"run {i + 1}" for i in rows])
    panel.invert_yaxis()
    panel.set_xlabel("memory above the imports, in weights")
    panel.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    plain(panel)
    save(figure, path)
