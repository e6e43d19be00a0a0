"""`sample` for NVIDIA GPUs: a few passes over the scores, each by many programs a row.

    peaks     the largest score of each chunk                                      every row
    survey    the mass of each chunk; of rows with a cut also how many scores and how much mass are above 15 pivots
    gather    the scores between the pivots that enclose what top-k and top-p are to find, as a list
    cut       the score at which they cut, exactly, from that list                 one program a row
    weigh     the mass of each chunk above the cut                                 rows with a cut
    draw      the chunk and in it the token                                        one program a row

A greedy row is read once, a plain one twice, one with top-k or top-p four times; `draw` reads one chunk more. Rows that
do not need a pass leave it at once, and three of the passes are not launched if the host knows that nobody does.

Floor for 128 rows of 131072 tokens on an H200: 64 MiB a pass, which is more than its L2 holds, are 16 us at 4.3 TB/s.
A weight takes some 50 instructions, half of them the division: 30 us for all; the 15 pivots as much again. Estimated,
not measured: greedy 20 us, plain 55 us, top-k and top-p 150 to 200 us.
"""

from penstock_kernels.sample.fused.launch import configurations, sample

__all__ = ["configurations", "sample"]
