"""Numbers of rows, of padding rows among them and of new blocks: alone, more than a block's slots, more than 256."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """max_blocks: columns of the table."""

    num_rows: int
    num_padding: int
    num_changes: int
    block_size: int = 16
    max_blocks: int = 9


CASES = (
    Case(1, 0, 0),
    Case(1, 0, 1),
    Case(1, 1, 0),
    Case(8, 3, 5),
    Case(24, 20, 4),
    Case(5, 2, 3, block_size=1, max_blocks=33),
    Case(7, 0, 7, block_size=128, max_blocks=1),
    Case(300, 44, 290, block_size=32),
)
