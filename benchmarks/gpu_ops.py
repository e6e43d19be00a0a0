"""Every op beside its reference and its peers in torch, one at a time: time, and the share of what the device can do.

    python benchmarks/gpu_ops.py --seconds 120        # on a GPU: all sizes, as far as the time goes
    python benchmarks/gpu_ops.py --scale tiny         # anywhere: to see that it runs and that all sides agree

The floor of an op is what it has to read and write at the bandwidth of a large copy, or its operations at the rate of a
large matrix product, whichever takes longer; both are measured in the same run. Attention has a run of its own,
`gpu_attention.py`. Exits with 1 if one of our sides failed or was wrong; the figures are written all the same.
"""

from collections.abc import Sequence

from gpu_run import Contests, Run, run

from kernels import (
    activation,
    best_continuations,
    bitmask,
    copy_blocks,
    gather_last,
    layer_norm,
    linear,
    logits,
    penalties,
    qkv_prepare,
    rms_norm,
    sample,
    step_inputs,
    token_logprobs,
)

# Those with goals first, and the longest last: a run may be cut short.
OPS: dict[str, Contests] = {
    "sample": sample.contests,
    "rms_norm": rms_norm.contests,
    "qkv_prepare": qkv_prepare.contests,
    "activation": activation.contests,
    "logits": logits.contests,
    "token_logprobs": token_logprobs.contests,
    "penalties": penalties.contests,
    "bitmask": bitmask.contests,
    "best_continuations": best_continuations.contests,
    "layer_norm": layer_norm.contests,
    "copy_blocks": copy_blocks.contests,
    "gather_last": gather_last.contests,
    "step_inputs": step_inputs.contests,
    "linear": linear.contests,
}


def main(arguments: Sequence[str] | None = None) -> None:
    run(Run("gpu_ops", __doc__, OPS), arguments)


if __name__ == "__main__":
    main()
