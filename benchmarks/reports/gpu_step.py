"""Section of `gpu_step.py`: whole decoding steps beside the floor and beside transformers."""

from collections.abc import Sequence
from pathlib import Path

from reports.drawing import OURS, SECOND, new_figure, plain, save
from reports.gpu import device_blocks, ending, floors_line
from reports.record import Record
from reports.section import Picture, Section, table


def render(record: Record) -> Section:
    steps = record.parts("contests")
    settings = record.part("settings")
    blocks = [
        *device_blocks(record),
        "A whole decoding step with sampling (temperature 0.8, top-p 0.95), random weights,"
        f" {settings.count('context')} keys for each row: milliseconds of a step among many that are launched one after"
        " another by the engine's runner, as it decodes. The floor is the bytes of weights, keys and values over the"
        f" bandwidth of a large copy, or the operations at the rate of a large product. {floors_line(record)}"
        " Measured by `python benchmarks/gpu_step.py`.",
        table(
            ["", "floor", "ours", "share", "tokens/s", "without graphs", "batch-invariant", "its cost", "goal"],
            map(_row, steps),
        ),
    ]
    if launches := [step for step in steps if step.has("launches")]:
        blocks.append(
            table(
                ["", "launches a step, copies among them", "of them in each layer"],
                (
                    [
                        step.text("size"),
                        str(step.part("launches").count("per_step")),
                        str(step.part("launches").count("per_layer")),
                    ]
                    for step in launches
                ),
            )
        )
    if peers := [step for step in steps if step.has("peers") and step.part("peers").value]:
        blocks.append(
            table(
                ["", "peer", "ms a step", "ours is faster by"],
                (
                    [step.text("size"), name, f"{peer.number('seconds') * 1e3:.3f}", f"{_ratio(step, peer):.2f}x"]
                    for step in peers
                    for name, peer in step.named_parts("peers")
                ),
            )
        )
    return Section(
        "Decoding steps on a GPU",
        [*blocks, ending(record)],
        [
            Picture(
                f"{record.source.stem}.png",
                "Bars: share of the floor of a decoding step, with CUDA graphs and without",
                lambda path: _draw(steps, path),
            )
        ],
    )


def _row(step: Record) -> list[str]:
    sides = step.part("sides")
    row = [step.text("size"), f"{step.number('floor_seconds') * 1e3:.3f}"]
    if sides.has("graph"):
        graph = sides.part("graph")
        rate = step.count("num_rows") / graph.number("seconds")
        row += [f"{graph.number('seconds') * 1e3:.3f}", f"{graph.number('share'):.0%}", f"{rate:.0f}"]
    else:
        row += ["", "", ""]
    for name in ("eager", "invariant"):
        row.append(f"{sides.part(name).number('seconds') * 1e3:.3f}" if sides.has(name) else "")
    row.append(f"{step.number('invariant_cost'):+.1%}" if step.has("invariant_cost") else "")
    if not step.has("goal"):
        return [*row, ""]
    goal = step.number("goal")
    if not sides.has("graph"):
        return [*row, f"{goal:.0%}: not measured"]
    return [*row, f"{goal:.0%}: {'met' if sides.part('graph').number('share') >= goal else '**not met**'}"]


def _ratio(step: Record, peer: Record) -> float:
    return peer.number("seconds") / step.part("sides").part("graph").number("seconds")


def _draw(steps: Sequence[Record], path: Path) -> None:
    figure = new_figure(9, 0.8 + 0.36 * len(steps))
    panel = figure.subplots()
    for i, (side, color, label) in enumerate((("graph", OURS, "CUDA graphs"), ("eager", SECOND, "without"))):
        shares = [
            step.part("sides").part(side).number("share") * 100 if step.part("sides").has(side) else 0.0
            for step in steps
        ]
        panel.barh([place + (i - 0.5) * 0.4 for place in range(len(steps))], shares, 0.36, color=color, label=label)
    panel.set_yticks(range(len(steps)), [step.text("size") for step in steps], fontsize=7)
    panel.invert_yaxis()
    panel.set_title("% of the floor, more is better", fontsize=10)
    panel.legend(fontsize=8, frameon=False)
    plain(panel)
    save(figure, path)
