"""How kernels of one program a row are specialised: by the size of a row alone, so that its bits know no batch.

A program holds its whole row in registers: the row is read once, however often the formula needs it.
"""

from collections.abc import Mapping

BLOCKS = (256, 512, 1024, 2048, 4096, 8192, 16384)
"""How many elements a program has room for: powers of two, up to the widest models."""

_ELEMENTS_A_THREAD = 16


def block_of(size: int) -> int:
    """The smallest of `BLOCKS` that holds a row.

    Raises:
        ValueError: none does.
    """
    for block in BLOCKS:
        if size <= block:
            return block
    raise ValueError(f"the fused norms take rows of up to {BLOCKS[-1]} elements, and these have {size}")


NUM_WARPS: Mapping[int, int] = {block: min(max(block // (32 * _ELEMENTS_A_THREAD), 1), 16) for block in BLOCKS}
"""By block: two 16-byte loads of 16-bit elements in flight a thread, and at most 512 threads, which may have 128
registers each."""
