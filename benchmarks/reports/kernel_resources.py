"""Section of `kernel_resources.py`: what the fused kernels take of a multiprocessor, without a GPU having run them."""

from collections.abc import Sequence

from reports.record import Record
from reports.section import Section, bullets, several, table


def render(record: Record) -> Section:
    rows = record.parts("configurations")
    kinds = sorted({(row.text("op"), row.text("arch")) for row in rows})
    spilling = [row for row in rows if row.count("spilled") > 0]
    return Section(
        "What the fused kernels take of a GPU",
        [
            f"Each of the {len(rows)} configurations that a launcher of a fused kernel can choose, compiled for sm_80"
            " (A100) and sm_90 (H100, H200) by `python benchmarks/kernel_resources.py`, which needs no GPU."
            " Continuous integration refuses a table that is older than a kernel, and compiles a part of it anew for"
            " each commit. Ranges are over an op's configurations. Occupancy is the"
            " share of a multiprocessor's 64 warp slots that are taken if as many blocks run on it as registers and"
            " shared memory allow: an estimate, not a speed.",
            table(
                ["op", "for", "configurations", "spilling", "registers", "shared memory, KiB", "occupancy"],
                [
                    _line(op, arch, [r for r in rows if (r.text("op"), r.text("arch")) == (op, arch)])
                    for op, arch in kinds
                ],
            ),
            bullets(
                [*_reasons(spilling), f"Compiled on {record.text('compiled_at')} by Triton {record.text('triton')}."]
            ),
        ],
        [],
    )


def _line(op: str, arch: str, rows: Sequence[Record]) -> list[str]:
    occupancy = [100 * row.number("occupancy") for row in rows]
    return [
        op,
        arch,
        str(len(rows)),
        str(sum(row.count("spilled") > 0 for row in rows)),
        _range([row.count("registers") for row in rows]),
        _range([row.count("shared") / 1024 for row in rows]),
        f"{_range(occupancy)} %",
    ]


def _range(values: Sequence[float]) -> str:
    least, most = f"{min(values):.0f}", f"{max(values):.0f}"
    return least if least == most else f"{least} to {most}"


def _reasons(spilling: Sequence[Record]) -> list[str]:
    """One line for each op and reason."""
    if not spilling:
        return ["No configuration spills a register."]
    found: dict[tuple[str, str], list[int]] = {}
    for row in spilling:
        found.setdefault((row.text("op"), row.text("why_spills")), []).append(row.count("spilled"))
    return [
        f"`{op}` spills up to {max(amounts)} bytes a thread in {several(len(amounts), 'configuration')}:"
        f" {reason.rstrip('.')}."
        for (op, reason), amounts in sorted(found.items())
    ]
