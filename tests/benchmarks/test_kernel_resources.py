"""The table of what kernels take: occupancy, faults, differences. Nothing is compiled here."""

from dataclasses import replace
from pathlib import Path

import pytest
from compiled.processors import PROCESSORS, resident_blocks
from compiled.resources import Failure, Resources, Task
from kernel_resources import Row, differences, faults, read_table, record, stale

GOOD = Resources(
    op="rms_norm",
    name="bf16 size 2048",
    arch="sm_90",
    num_warps=4,
    num_stages=3,
    registers=40,
    spilled=0,
    shared=64,
    blocks=12,
    occupancy=0.75,
    matrix=(),
    why_spills="",
    may_spill=False,
    digest="0123456789abcdef",
)


@pytest.mark.parametrize(
    ("capability", "num_warps", "registers", "shared", "blocks"),
    [
        (90, 4, 32, 0, 16),  # 64 warps
        (90, 1, 32, 0, 32),  # 32 blocks
        (90, 4, 128, 0, 4),  # 65536 / (128 * 32) = 16 warps
        (90, 4, 129, 0, 3),  # rounded to 136 registers: 3 warps in each quarter
        (90, 8, 255, 0, 1),  # 2 warps in each quarter
        (90, 4, 32, 227 * 1024, 1),
        (90, 4, 32, 227 * 1024 + 1, 0),
        (90, 4, 32, 75 * 1024, 3),  # 76 KiB each, of 228
        (80, 4, 32, 75 * 1024, 2),
        (80, 4, 32, 164 * 1024, 0),
    ],
)
def test_occupancy(capability: int, num_warps: int, registers: int, shared: int, blocks: int) -> None:
    """By hand from the limits in the CUDA programming guide."""
    assert resident_blocks(PROCESSORS[capability], num_warps, registers, shared) == blocks


def test_faults_are_named() -> None:
    rows: list[Row] = [
        GOOD,
        replace(GOOD, name="spills", spilled=8),
        replace(GOOD, name="may spill", spilled=8, may_spill=True, why_spills="float64"),
        replace(GOOD, name="large", blocks=0),
        Failure("linear", "odd", "sm_80", "CompilationError: no"),
    ]
    assert list(faults(rows)) == [
        "rms_norm, spills, sm_90: spills 8 bytes per thread (40 registers)",
        "rms_norm, large, sm_90: does not fit: 40 registers x 4 warps, 64 bytes shared",
        "linear, odd, sm_80: CompilationError: no",
    ]


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    other = replace(GOOD, name="bf16 size 4096", matrix=("mma.sync.aligned.m16n8k16",))
    path = tmp_path / "table.json"
    path.write_text(record([other, GOOD]))
    assert read_table(path) == {GOOD.key: GOOD, other.key: other}
    assert list(read_table(path)) == sorted([GOOD.key, other.key])
    assert read_table(tmp_path / "none.json") == {}


def test_what_the_table_does_not_know_is_named() -> None:
    table = {row.key: row for row in (GOOD, replace(GOOD, name="gone"), replace(GOOD, name="edited"))}
    tasks = [Task("rms_norm", 90, 0, name, GOOD.digest) for name in (GOOD.name, "new")]
    tasks.append(Task("rms_norm", 90, 2, "edited", "f" * 16))
    assert list(stale(tasks, table)) == [
        "rms_norm, sm_90, edited: has changed since the table was written",
        "rms_norm, sm_90, gone: is in the table, and no launcher chooses it",
        "rms_norm, sm_90, new: is not in the table",
    ]


def test_other_figures_are_named() -> None:
    now = [GOOD, replace(GOOD, name="large", registers=48, blocks=10)]
    table = {row.key: row for row in (GOOD, replace(GOOD, name="large"))}
    assert list(differences(now, table)) == ["rms_norm, sm_90, large: registers 40 -> 48, blocks 12 -> 10"]
