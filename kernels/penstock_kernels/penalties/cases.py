"""((rows, vocab), slots): a whole word, a part of one, more than one tile and program a row, slots out of order."""

CASES = (
    ((1, 32), (1,)),
    ((3, 7), (2, 1, 3)),
    ((4, 1001), (4, 1, 2, 5)),
    ((2, 8225), (3, 1)),
)
NUM_SLOTS = 6
