"""Shapes of x: one token and many, sizes that are no multiple of a vector, heads as an extra axis."""

SHAPES = ((1, 576), (16, 576), (5, 77), (3, 1), (7, 3, 20), (2, 4096))
EPS = 1e-5
