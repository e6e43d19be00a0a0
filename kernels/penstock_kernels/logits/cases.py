"""(rows, vocab, size)."""

SHAPES = ((1, 4096, 576), (2, 1001, 77), (16, 4096, 576), (70, 513, 64))

# What Triton's interpreter can do in a moment.
INTERPRETED_SHAPES = ((1, 300, 80), (2, 101, 77), (17, 40, 64), (70, 133, 64))
