"""(rows of each search, vocab, how many): one row, uneven searches, more than one block, several chunks."""

CASES = (((1,), 1, 1), ((1, 3, 2), 37, 8), ((4,), 1001, 40), ((2, 1), 9001, 4), ((3,), 300, 100))
