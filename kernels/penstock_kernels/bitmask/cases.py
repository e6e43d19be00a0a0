"""((rows, vocab), words of a mask, rows of the masks): exact, short and long masks, one to pass over, none at all."""

CASES = (
    ((1, 32), 1, (0,)),
    ((4, 7), 1, (3, -1, 1)),
    ((3, 1001), 32, (2, 0)),
    ((2, 1001), 20, (1,)),
    ((2, 77), 9, (1, 0)),
    ((2, 4129), 130, (1, 0)),
    ((2, 50), 2, ()),
)
