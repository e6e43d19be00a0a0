"""Section of `grammars.py`: compiling grammars and computing their masks, by llguidance and by xgrammar."""

from pathlib import Path

from reports.drawing import OTHER, OURS, new_figure, plain, save
from reports.record import Record
from reports.section import Picture, Section, bullets, provenance, table

# As (what is shown, the field of a side's figures).
COLUMNS = (
    ("compile ms", "compile_ms"),
    ("mean mask us", "mean_us"),
    ("largest mask us, first walk", "first_walk_max_us"),
    ("fork us", "fork_us"),
)


def render(record: Record) -> Section:
    rows = [
        (name, size, side, figures)
        for name, sizes in record.named_parts("cases")
        for size, sides in sizes.every_part()
        for side, figures in sides.every_part()
    ]
    return Section(
        "Grammars",
        [
            "A grammar compiled, and the mask of allowed tokens along a document that follows it, with the same made-up"
            " vocabularies for all sides. Measured by `python benchmarks/grammars.py`.",
            table(
                ["grammar", "vocabulary", "by", *(title for title, _ in COLUMNS)],
                [
                    [name, size, side, *(f"{figures.number(key):.1f}" for _, key in COLUMNS)]
                    for name, size, side, figures in rows
                ],
            ),
            bullets(
                [
                    "Masks are computed while the model's next step runs, so what counts is that they are shorter than"
                    " a step; compiling stands between a request and its first token.",
                    provenance(record),
                ]
            ),
        ],
        [
            Picture(
                f"{record.source.stem}.png",
                "Bars: milliseconds to compile each grammar",
                lambda path: _draw(rows, path),
            )
        ],
    )


def _draw(rows: list[tuple[str, str, str, Record]], path: Path) -> None:
    figure = new_figure(9, 3.2)
    panel = figure.subplots()
    first = rows[0][2]
    panel.bar(
        range(len(rows)),
        [figures.number("compile_ms") for *_, figures in rows],
        0.8,
        color=[OURS if side == first else OTHER for _, _, side, _ in rows],
    )
    panel.set_yscale("log")
    panel.set_xticks(range(len(rows)), [f"{name}\n{size}\n{side}" for name, size, side, _ in rows], fontsize=6)
    panel.set_title("ms to compile, less is better", fontsize=10)
    plain(panel)
    save(figure, path)
