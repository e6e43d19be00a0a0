"""What the sections of GPU results have in common: which device, contests as tables, goals, and what is missing."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from reports.drawing import OTHER, OURS, SECOND, new_figure, plain, save
from reports.record import Record
from reports.section import bullets, provenance, table

FUSED, INVARIANT, REFERENCE = "fused", "fused_invariant", "reference"
_TITLES = {FUSED: "ours", INVARIANT: "ours, batch-invariant", REFERENCE: "reference"}


def device_blocks(record: Record) -> list[str]:
    """What a reader has to know before the figures."""
    if not record.has("gpu"):
        return ["**Measured without a GPU: these figures say nothing about one.**"]
    return []


def gpu_provenance(record: Record) -> str:
    """Which GPU, machine, software, commit and day."""
    if not record.has("gpu"):
        return provenance(record)
    gpu = record.part("gpu")
    clocks = [f"driver {gpu.text('driver_version')}"] if gpu.has("driver_version") else []
    clocks += [f"at most {gpu.text('clocks.max.sm')} MHz"] if gpu.has("clocks.max.sm") else []
    clocks += [f"{gpu.text('power.limit')} W"] if gpu.has("power.limit") else []
    what = ", ".join([gpu.text("name"), f"{gpu.number('memory') / 2**30:.0f} GiB", *clocks])
    packages = record.part("machine").part("packages")
    triton = f", triton {packages.text('triton')}" if packages.has("triton") else ""
    return f"{what}; CUDA {gpu.text('cuda')}{triton}. {provenance(record)}"


def floors_line(record: Record) -> str:
    floors = record.part("floors")
    return (
        f"In the same run a large copy moved {floors.number('copy_bandwidth') / 1e9:.0f} GB/s (read and written bytes"
        f" both count), a large sum read {floors.number('read_bandwidth') / 1e9:.0f} GB/s, and a product of large"
        f" matrices computed {floors.number('matmul_rate') / 1e12:.0f} TFLOP/s: the floor is what the bytes or the"
        " operations that a size cannot do without take at these rates, whichever is longer."
    )


def contest_table(contests: Sequence[Record]) -> str:
    """One op: microseconds of each side, and for ours the share of the floor."""
    names = list(dict.fromkeys(name for contest in contests for name, _ in contest.named_parts("sides")))
    # Ours first, then the reference, then the peers.
    order = [name for name in _TITLES if name in names] + [name for name in names if name not in _TITLES]
    header = ["", "floor"]
    for name in order:
        header += [_TITLES.get(name, name), "share"] if name in (FUSED, INVARIANT) else [_TITLES.get(name, name)]
    return table([*header, "goal"], (_row(contest, order) for contest in contests))


def problem_lines(record: Record) -> Iterator[str]:
    """What failed and what was left out: nothing of it is kept from the reader."""
    for problem in _texts(record, "problems"):
        yield f"**Failed: {problem}**"
    missing = _texts(record, "not_measured")
    if missing:
        yield f"Not measured: {'; '.join(missing)}."
    for contest in record.parts("contests"):
        for name, reason in contest.part("not_available").value.items():
            yield f"{contest.text('size')}: {name} did not run: {reason}"


def ending(record: Record) -> str:
    return bullets([*problem_lines(record), gpu_provenance(record)])


def draw_shares(contests: Sequence[Record], sides: Sequence[str], path: Path) -> None:
    """Bars: the share of the floor of each side, contest by contest."""
    figure = new_figure(9, 0.8 + 0.36 * len(contests))
    panel = figure.subplots()
    colors = (OURS, OTHER, SECOND)
    height = 0.8 / len(sides)
    for i, side in enumerate(sides):
        shares = [_share(contest, side) for contest in contests]
        places = [place + (i - (len(sides) - 1) / 2) * height for place in range(len(contests))]
        panel.barh(places, shares, height * 0.9, color=colors[i % len(colors)], label=_TITLES.get(side, side))
    panel.set_yticks(range(len(contests)), [contest.text("size") for contest in contests], fontsize=7)
    panel.invert_yaxis()
    panel.set_title("% of the floor, more is better", fontsize=10)
    panel.legend(fontsize=8, frameon=False)
    plain(panel)
    save(figure, path)


def goal_text(contest: Record) -> str:
    """The goal, and whether ours met it; empty where there is none."""
    if not contest.has("goal"):
        return ""
    goal = contest.part("goal")
    kind, value = goal.text("kind"), goal.number("value")
    sides = contest.part("sides")
    ours = sides.part(FUSED) if sides.has(FUSED) else None
    match kind:
        case "share":
            said, met = f"{value:.0%}", ours is not None and ours.number("share") >= value
        case "operations_per_second":
            said = f"{value / 1e12:.0f} TFLOP/s"
            met = ours is not None and ours.number("operations_per_second") >= value
        case "seconds":
            said, met = f"{value * 1e6:.0f} us", ours is not None and ours.number("seconds") <= value
        case _:
            goal.refuse("kind", "a known kind of goal")
    return f"{said}: {'met' if met else '**not met**'}" if ours is not None else f"{said}: not measured"


def _row(contest: Record, order: Sequence[str]) -> list[str]:
    sides = contest.part("sides")
    row = [contest.text("size"), _us(contest.number("floor_seconds"))]
    for name in order:
        side = sides.part(name) if sides.has(name) else None
        row.append("" if side is None else _us(side.number("seconds")))
        if name in (FUSED, INVARIANT):
            row.append("" if side is None else _achieved(contest, side))
    return [*row, goal_text(contest)]


def _achieved(contest: Record, side: Record) -> str:
    """The share of the floor, and the rate that it is a share of."""
    share = f"{side.number('share'):.0%}"
    rates = contest.number("num_operations") / max(contest.number("num_bytes"), 1)
    if rates > 100:  # operations per byte: far on the side of computing
        return f"{share}, {side.number('operations_per_second') / 1e12:.0f} TFLOP/s"
    return f"{share}, {side.number('bytes_per_second') / 1e9:.0f} GB/s"


def _share(contest: Record, side: str) -> float:
    sides = contest.part("sides")
    return sides.part(side).number("share") * 100 if sides.has(side) else 0.0


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.1f}"


def _texts(record: Record, name: str) -> list[str]:
    values = record.value.get(name)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        record.refuse(name, "a list of texts")
    return values
