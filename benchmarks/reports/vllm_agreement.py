"""Section of `vllm_agreement.py`: our serving benchmark's figures beside those of `vllm bench serve`."""

from pathlib import Path

from reports.drawing import OTHER, OURS, SECOND, new_figure, plain, save
from reports.record import Record
from reports.section import Picture, Section, bullets, provenance, several, table


def render(record: Record) -> Section:
    lines = record.parts("agreements")
    cases = list(dict.fromkeys(line.text("case") for line in lines))
    tolerance = record.number("tolerance")
    num_agreeing = sum(line.flag("agrees") for line in lines)
    name = record.source.stem
    return Section(
        "The serving benchmark beside vllm bench serve",
        [
            f"Both benchmarks on one server ({record.text('server')}), in alternation,"
            f" {several(record.count('rounds'), 'round')};"
            f" each cell is our median over that of vLLM {record.text('vllm')}. Prompts of"
            f" {record.count('input_len')} tokens. Measured by `{_command(record)}`.",
            table(
                ["figure", *cases],
                [
                    [f"`{figure}`", *(_cell(lines, case, figure) for case in cases)]
                    for figure in dict.fromkeys(line.text("figure") for line in lines)
                ],
            ),
            bullets(
                [
                    f"{num_agreeing} of {len(lines)} figures agree within {tolerance:.0%}; the others are in bold.",
                    provenance(record),
                ]
            ),
        ],
        [
            Picture(
                f"{name}.png",
                "Dots: our figures over vLLM's, by figure and load, beside the tolerance",
                lambda path: _draw(record, path),
            )
        ],
    )


def _command(record: Record) -> str:
    cases = record.parts("cases")
    closed = ",".join(str(case.count("concurrency")) for case in cases if case.has("concurrency"))
    rates = ",".join(f"{case.number('rate'):g}" for case in cases if case.has("rate"))
    words = ["python benchmarks/vllm_agreement.py --vllm vllm", f"--concurrency '{closed}' --rate '{rates}'"]
    words += [f"--num-prompts {cases[0].count('num_prompts')} --output-len {cases[0].count('output_len')}"]
    words += [f"--rounds {record.count('rounds')}"]
    server = record.text("server")
    return " ".join(words + ([f"--steady {server.removeprefix('steady ')}"] if server.startswith("steady ") else []))


def _cell(lines: list[Record], case: str, figure: str) -> str:
    for line in lines:
        if line.text("case") == case and line.text("figure") == figure:
            ratio = f"{line.number('ratio'):.3f}"
            return ratio if line.flag("agrees") else f"**{ratio}**"
    return ""


def _draw(record: Record, path: Path) -> None:
    lines = record.parts("agreements")
    figures = list(dict.fromkeys(line.text("figure") for line in lines))
    cases = list(dict.fromkeys(line.text("case") for line in lines))
    figure = new_figure(8, 1.2 + 0.22 * len(figures))
    panel = figure.subplots()
    tolerance = record.number("tolerance")
    panel.axvspan(1 - tolerance, 1 + tolerance, color=OTHER, alpha=0.4, label=f"within {tolerance:.0%}")
    for i, case in enumerate(cases):
        points = [(line.number("ratio"), line.text("figure")) for line in lines if line.text("case") == case]
        rows = [figures.index(name) for _, name in points]
        colour = (OURS, SECOND, "#b8336a", "#4a7c59", "#6b5b95")[i % 5]
        panel.scatter([ratio for ratio, _ in points], rows, s=18, color=colour, label=case, zorder=3)
    panel.set_yticks(range(len(figures)), figures, fontsize=8)
    panel.invert_yaxis()
    panel.set_xlabel("ours, in vLLM's")
    panel.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    plain(panel)
    save(figure, path)
