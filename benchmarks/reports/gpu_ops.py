"""Section of `gpu_ops.py`: every op beside its reference and its peers."""

from reports.gpu import FUSED, INVARIANT, contest_table, device_blocks, draw_shares, ending, floors_line
from reports.record import Record
from reports.section import Picture, Section


def render(record: Record) -> Section:
    contests = record.parts("contests")
    ops = list(dict.fromkeys(contest.text("op") for contest in contests))
    with_goals = [contest for contest in contests if contest.has("goal")]
    blocks = [
        *device_blocks(record),
        "One op at a time, microseconds of one call in a CUDA graph, on inputs that no cache holds."
        f" {floors_line(record)} Measured by `python benchmarks/gpu_ops.py`.",
    ]
    for op in ops:
        blocks += [f"`{op}`:", contest_table([contest for contest in contests if contest.text("op") == op])]
    pictures = []
    if with_goals:
        pictures.append(
            Picture(
                f"{record.source.stem}.png",
                "Bars: share of the floor of each op that has a goal, ours beside torch",
                lambda path: draw_shares(with_goals, (FUSED, INVARIANT), path),
            )
        )
    return Section("Kernels on a GPU", [*blocks, ending(record)], pictures)
