"""Shapes of x: one token and many, sizes that are no multiple of a vector."""

SHAPES = ((1, 768), (16, 768), (5, 77), (3, 2), (2, 4096))
EPS = 1e-5
