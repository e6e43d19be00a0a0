"""Paged attention beside torch's SDPA and FlexAttention: decoding at many sizes, and prompts.

    python benchmarks/gpu_attention.py --seconds 200  # on a GPU: all sizes, as far as the time goes
    python benchmarks/gpu_attention.py --scale tiny   # anywhere: to see that it runs and that all sides agree

One layer with the heads of three well-known models. Decoding is compared with the bandwidth of a large copy, prompts
with the rate of a large matrix product; both are measured in the same run. Exits with 1 if one of our sides failed or
was wrong; the figures are written all the same.
"""

from collections.abc import Sequence

from gpu_run import Run, run

from kernels import paged_attention


def main(arguments: Sequence[str] | None = None) -> None:
    run(Run("gpu_attention", __doc__, {"paged_attention": paged_attention.contests}), arguments)


if __name__ == "__main__":
    main()
