"""Section of `beams.py`: beam search beside transformers, and the blocks that its hypotheses share."""

from pathlib import Path

from reports.drawing import OTHER, OURS, new_figure, plain, save
from reports.record import Record
from reports.section import Picture, Section, bullets, provenance, ratio, several, table


def render(record: Record) -> Section:
    settings = record.part("settings")
    name = record.source.stem
    return Section(
        "Beam search beside transformers",
        [
            f"One search at a time in the engine, in process, against transformers' `generate(num_beams=...)`."
            f" {_checkpoint(record)}, {settings.count('threads')} threads each, a prompt of"
            f" {settings.count('prompt_length')} tokens and answers of {settings.count('answer_length')}; both in one"
            f" process, in alternation, {several(settings.count('rounds'), 'round')}. Measured by"
            f" `{_command(settings)}`.",
            table(
                ["width", "ms per step (min to max)", "of it the model", "transformers ms", "times as fast"],
                [
                    [
                        str(row.count("width")),
                        _milliseconds(row.part("beam_ms")),
                        f"{row.part('beam_forward_ms').number('median'):.1f}",
                        _milliseconds(row.part("transformers_ms")) if row.has("transformers_ms") else "",
                        ratio(row.part("ratio")) if row.has("ratio") else "",
                    ]
                    for row in record.parts("summary")
                ],
            ),
            f"**Room**: the most KV cache blocks of {record.count('block_size')} tokens that were in use at once.",
            table(
                ["width", "the search", "as many samples of one request", "as many requests"],
                [
                    [
                        str(row.count("width")),
                        f"{row.count('beam_blocks')}",
                        f"{row.count('sample_blocks')}",
                        f"{row.count('separate_blocks')}",
                    ]
                    for row in record.parts("summary")
                ],
            ),
            bullets(
                [
                    "A step's time is that of an answer beyond its first token, per token. Samples of one request share"
                    " their prompt; what requests of their own would hold is computed.",
                    "Both sides found best answers of the same score on a tiny checkpoint in float32 before anything"
                    " was measured.",
                    provenance(record),
                ]
            ),
        ],
        [
            Picture(
                f"{name}.png",
                "Bars: milliseconds per step and blocks in use for each width",
                lambda path: _draw(record, path),
            )
        ],
    )


def _checkpoint(record: Record) -> str:
    name = record.part("settings").text("checkpoint")
    what = "The demo model" if name == "demo" else f"Shape {name} with random weights"
    return f"{what} in bf16 ({record.number('num_parameters') / 1e6:.0f}M parameters)"


def _command(settings: Record) -> str:
    name = settings.text("checkpoint")
    words = ["python benchmarks/beams.py", "--demo" if name == "demo" else f"--shape {name}"]
    flags = ("rounds", "prompt_length", "answer_length", "threads")
    return " ".join(words + [f"--{flag.replace('_', '-')} {settings.count(flag)}" for flag in flags])


def _milliseconds(spread: Record) -> str:
    median, least, most = (spread.number(name) for name in ("median", "min", "max"))
    return f"{median:.1f} ({least:.1f} to {most:.1f})"


def _draw(record: Record, path: Path) -> None:
    rows = record.parts("summary")
    names = [str(row.count("width")) for row in rows]
    places = range(len(rows))
    figure = new_figure(9, 3)
    left, right = figure.subplots(1, 2)
    theirs = [row.part("transformers_ms").number("median") if row.has("transformers_ms") else 0.0 for row in rows]
    left.bar([i - 0.2 for i in places], [row.part("beam_ms").number("median") for row in rows], 0.38, color=OURS)
    left.bar([i + 0.2 for i in places], theirs, 0.38, color=OTHER)
    left.set_yscale("log")
    left.set_title("ms per step, less is better (grey: transformers)", fontsize=10)
    right.bar([i - 0.2 for i in places], [row.count("beam_blocks") for row in rows], 0.38, color=OURS)
    right.bar([i + 0.2 for i in places], [row.count("sample_blocks") for row in rows], 0.38, color=OTHER)
    right.set_yscale("log")
    right.set_title("blocks in use, less is better (grey: samples)", fontsize=10)
    for panel in (left, right):
        panel.set_xticks(places, names)
        panel.set_xlabel("width")
        plain(panel)
    save(figure, path)
