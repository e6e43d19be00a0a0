"""((tokens, size), rows): one, several out of order, repeated, none."""

CASES = (
    ((1, 576), (0,)),
    ((40, 577), (39, 0, 17)),
    ((5, 77), (4, 4, 0, 4)),
    ((7, 33), ()),
    ((64, 2048), tuple(range(63, -1, -2))),
)
