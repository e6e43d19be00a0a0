"""(rows, vocab, how many of the best): none, all, more than one chunk holds, many."""

CASES = ((1, 1, 1), (3, 37, 0), (5, 37, 37), (4, 1001, 20), (3, 9001, 8), (3, 9001, 300))
