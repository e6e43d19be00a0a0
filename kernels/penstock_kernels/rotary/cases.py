"""(tokens, heads, head_size, rotary_size): whole and partial rotation, halves that fill no vector."""

SHAPES = ((1, 12, 64, 64), (16, 12, 64, 64), (5, 3, 20, 20), (4, 2, 24, 10), (3, 1, 80, 32), (2, 5, 2, 2))
