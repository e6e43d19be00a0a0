"""Section of `sampler.py`: the sampler alone beside transformers' processors and torch's multinomial."""

from pathlib import Path

from reports.drawing import OTHER, OURS, SECOND, new_figure, plain, save
from reports.record import Record
from reports.section import Picture, Section, bullets, provenance, several, table

THEIRS, DEFAULT, MIXED = "transformers_default_chain", "default_chain", "mixed"


def render(record: Record) -> Section:
    settings = record.part("settings")
    cases = record.parts("cases")
    name = record.source.stem
    kinds = [kind for kind, _ in cases[0].part("median_seconds").every_number()]
    return Section(
        "The sampler beside transformers",
        [
            "From logits to tokens, without a model: each kind of decoding by itself, a batch in which the rows take"
            " turns at all of them, and on the same logits transformers' warpers with softmax and multinomial."
            f" {several(settings.count('threads'), 'thread')}, medians of {several(settings.count('rounds'), 'round')}."
            " Milliseconds of one step. Measured by `python benchmarks/sampler.py"
            f" --rounds {settings.count('rounds')}`.",
            table(
                ["rows x vocabulary", *(f"`{kind}`" for kind in kinds)],
                [
                    [
                        _size(case),
                        *(f"{seconds * 1e3:.2f}" for _, seconds in case.part("median_seconds").every_number()),
                    ]
                    for case in cases
                ],
            ),
            table(
                [
                    "rows x vocabulary",
                    "mixed batch over slowest kind",
                    "transformers' default chain over ours",
                    "its top-p over ours",
                ],
                [
                    [
                        _size(case),
                        f"{case.number('mixed_over_slowest'):.2f}",
                        f"{case.number('transformers_over_default_chain'):.2f}x",
                        f"{case.number('transformers_over_top_p'):.2f}x",
                    ]
                    for case in cases
                ],
            ),
            bullets(
                [
                    "Goals at 64 rows: the mixed batch at most 1.3 times the slowest kind; the default chain"
                    " (temperature, top-k, top-p, min-p) at least 3 times as fast as transformers'.",
                    provenance(record),
                ]
            ),
        ],
        [
            Picture(
                f"{name}.png",
                "Bars: milliseconds of a step with the default chain, a mixed batch, and transformers' default chain",
                lambda path: _draw(cases, path),
            )
        ],
    )


def _size(case: Record) -> str:
    return f"{case.count('num_rows')} x {case.count('vocab_size')}"


def _draw(cases: list[Record], path: Path) -> None:
    figure = new_figure(9, 3.4)
    panel = figure.subplots()
    sides = ((DEFAULT, OURS, "default chain"), (MIXED, SECOND, "mixed batch"), (THEIRS, OTHER, "transformers' chain"))
    for i, (side, color, label) in enumerate(sides):
        heights = [case.part("median_seconds").number(side) * 1e3 for case in cases]
        panel.bar([place + (i - 1) * 0.27 for place in range(len(cases))], heights, 0.25, color=color, label=label)
    panel.set_yscale("log")
    panel.set_xticks(range(len(cases)), [_size(case).replace(" x ", "\nx ") for case in cases], fontsize=7)
    panel.set_title("ms per step, less is better", fontsize=10)
    panel.legend(fontsize=8, frameon=False)
    plain(panel)
    save(figure, path)
