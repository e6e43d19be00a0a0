"""The tables of fused ops. The one way to the files that import Triton, taken only when such a table is asked for."""

from dataclasses import replace

from penstock_kernels.activation import fused as activation
from penstock_kernels.best_continuations import fused as best_continuations
from penstock_kernels.bitmask import fused as bitmask
from penstock_kernels.copy_blocks import fused as copy_blocks
from penstock_kernels.gather_last import fused as gather_last
from penstock_kernels.layer_norm import fused as layer_norm
from penstock_kernels.linear import fused as linear
from penstock_kernels.logits import fused as logits
from penstock_kernels.paged_attention import fused as paged_attention
from penstock_kernels.penalties import fused as penalties
from penstock_kernels.qkv_prepare import fused as qkv_prepare
from penstock_kernels.rms_norm import fused as rms_norm
from penstock_kernels.sample import fused as sample
from penstock_kernels.step_inputs import fused as step_inputs
from penstock_kernels.table import Kernels
from penstock_kernels.token_logprobs import fused as token_logprobs


def fused() -> Kernels:
    """See `Kernels.fused`."""
    return replace(
        Kernels.reference(),
        name="fused",
        sample=sample.sample,
        token_logprobs=token_logprobs.token_logprobs,
        best_continuations=best_continuations.best_continuations,
        rms_norm=rms_norm.rms_norm,
        layer_norm=layer_norm.layer_norm,
        activate=activation.activate,
        gated_activate=activation.gated_activate,
        qkv_prepare=qkv_prepare.qkv_prepare,
        pack_linear=linear.pack_linear,
        pack_quantised=linear.pack_quantised,
        linear=linear.linear,
        logits=logits.logits,
        plan_attention=paged_attention.plan_attention,
        plan_decoding=paged_attention.plan_decoding,
        paged_attention=paged_attention.paged_attention,
        gather_last=gather_last.gather_last,
        copy_blocks=copy_blocks.copy_blocks,
        prepare_step=step_inputs.prepare_step,
        penalties=penalties.penalties,
        count_tokens=penalties.count_tokens,
        apply_bitmask=bitmask.apply_bitmask,
    )


def fused_invariant() -> Kernels:
    """See `Kernels.fused_invariant`."""
    return replace(fused(), name="fused_invariant", linear=linear.linear_invariant, logits=logits.logits_invariant)
