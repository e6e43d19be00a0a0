"""Section of `gpu_attention.py`: paged attention beside SDPA and FlexAttention."""

from reports.gpu import FUSED, contest_table, device_blocks, draw_shares, ending, floors_line
from reports.record import Record
from reports.section import Picture, Section

PEERS = ("SDPA", "FlexAttention")


def render(record: Record) -> Section:
    contests = record.parts("contests")
    return Section(
        "Paged attention on a GPU",
        [
            *device_blocks(record),
            "One layer's attention, microseconds of one call in a CUDA graph, on keys and values that no cache holds."
            " Ours reads them through block tables whose blocks are scattered; SDPA and FlexAttention read contiguous"
            f" copies. {floors_line(record)} Measured by `python benchmarks/gpu_attention.py`.",
            contest_table(contests),
            ending(record),
        ],
        [
            Picture(
                f"{record.source.stem}.png",
                "Bars: share of the floor of each size, ours beside SDPA and FlexAttention",
                lambda path: draw_shares(contests, (FUSED, *PEERS), path),
            )
        ],
    )
