"""`Kernels`: the table of ops, passed in as a value. There is no global choice and no silent fallback."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

import torch

from penstock_kernels.activation import Activate, GatedActivate
from penstock_kernels.activation import reference as activation
from penstock_kernels.best_continuations import BestContinuations
from penstock_kernels.best_continuations import reference as best_continuations
from penstock_kernels.bitmask import ApplyBitmask
from penstock_kernels.bitmask import reference as bitmask
from penstock_kernels.copy_blocks import CopyBlocks
from penstock_kernels.copy_blocks import reference as copy_blocks
from penstock_kernels.gather_last import GatherLast
from penstock_kernels.gather_last import reference as gather_last
from penstock_kernels.layer_norm import LayerNorm
from penstock_kernels.layer_norm import reference as layer_norm
from penstock_kernels.linear import Linear, PackLinear, PackQuantised
from penstock_kernels.linear import reference as linear
from penstock_kernels.linear.quantised import QuantisedType
from penstock_kernels.logits import Logits
from penstock_kernels.logits import reference as logits
from penstock_kernels.paged_attention import PagedAttention, PlanAttention, PlanDecoding
from penstock_kernels.paged_attention import plan as attention_plan
from penstock_kernels.paged_attention import reference as paged_attention
from penstock_kernels.penalties import CountTokens, Penalties
from penstock_kernels.penalties import reference as penalties
from penstock_kernels.qkv_prepare import QkvPrepare
from penstock_kernels.qkv_prepare import reference as qkv_prepare
from penstock_kernels.rms_norm import RmsNorm
from penstock_kernels.rms_norm import reference as rms_norm
from penstock_kernels.sample import Sample
from penstock_kernels.sample import reference as sample
from penstock_kernels.step_inputs import PrepareStep
from penstock_kernels.step_inputs import reference as step_inputs
from penstock_kernels.token_logprobs import TokenLogprobs
from penstock_kernels.token_logprobs import reference as token_logprobs

KernelChoice = Literal["auto", "reference", "fused"]
WeightChoice = Literal["auto", QuantisedType]
"""What the linear layers of a model keep their weights in: the model's type, or one of fewer bits."""


class NoSuchKernels(ValueError):
    """A choice of kernels that cannot be had here; the message says why."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """One implementation of every op. Each field's type holds the contract; see the op's folder."""

    name: str
    rms_norm: RmsNorm
    layer_norm: LayerNorm
    activate: Activate
    gated_activate: GatedActivate
    qkv_prepare: QkvPrepare
    plan_attention: PlanAttention
    plan_decoding: PlanDecoding
    paged_attention: PagedAttention
    pack_linear: PackLinear
    pack_quantised: PackQuantised
    linear: Linear
    gather_last: GatherLast
    logits: Logits
    copy_blocks: CopyBlocks
    prepare_step: PrepareStep
    sample: Sample
    token_logprobs: TokenLogprobs
    best_continuations: BestContinuations
    penalties: Penalties
    count_tokens: CountTokens
    apply_bitmask: ApplyBitmask

    @classmethod
    def reference(cls) -> "Kernels":
        """Plain torch: the specification of every op, and what runs on a CPU."""
        return cls(
            name="reference",
            rms_norm=rms_norm.rms_norm,
            layer_norm=layer_norm.layer_norm,
            activate=activation.activate,
            gated_activate=activation.gated_activate,
            qkv_prepare=qkv_prepare.qkv_prepare,
            plan_attention=attention_plan.plan_attention,
            plan_decoding=attention_plan.plan_decoding,
            paged_attention=paged_attention.paged_attention,
            pack_linear=linear.pack_linear,
            pack_quantised=linear.pack_quantised,
            linear=linear.linear,
            gather_last=gather_last.gather_last,
            logits=logits.logits,
            copy_blocks=copy_blocks.copy_blocks,
            prepare_step=step_inputs.prepare_step,
            sample=sample.sample,
            token_logprobs=token_logprobs.token_logprobs,
            best_continuations=best_continuations.best_continuations,
            penalties=penalties.penalties,
            count_tokens=penalties.count_tokens,
            apply_bitmask=bitmask.apply_bitmask,
        )

    @classmethod
    def invariant(cls) -> "Kernels":
        """The reference on a CPU with bf16 instructions, with a token's bits independent of what shares its batch."""
        return replace(
            cls.reference(),
            name="invariant",
            pack_linear=linear.pack_linear_invariant,
            pack_quantised=linear.pack_quantised_invariant,
        )

    @classmethod
    def fused(cls) -> "Kernels":
        """Triton kernels for NVIDIA GPUs of compute capability 8.0 and newer; elsewhere only under its interpreter."""
        from penstock_kernels.fused_table import fused

        return fused()

    @classmethod
    def fused_invariant(cls) -> "Kernels":
        """As `fused`, with a token's bits independent of what shares its batch."""
        from penstock_kernels.fused_table import fused_invariant

        return fused_invariant()

    def with_weights(self, weights: WeightChoice) -> "Kernels":
        """This table, packing linear layers so. The head stays as it is: it may be the embedding.

        Raises:
            NoSuchKernels: there are no such weights; names those there are.
        """
        if weights == "auto":
            return self
        if weights not in get_args(QuantisedType):
            known = ", ".join(("auto", *get_args(QuantisedType)))
            raise NoSuchKernels(f"there are no weights {weights!r}; known: {known}")
        return replace(self, pack_linear=partial(self.pack_quantised, weights))


def select_kernels(
    choice: KernelChoice, device: torch.device, *, invariant: bool = False, weights: WeightChoice = "auto"
) -> Kernels:
    """The table for a choice. `auto` is fused on an NVIDIA GPU and the reference elsewhere.

    `invariant`: a token's bits are not to depend on what shares its batch. `weights`: see `Kernels.with_weights`.

    Raises:
        NoSuchKernels: the choice cannot be had on this device; says why.
    """
    return _select(choice, device, invariant).with_weights(weights)


def _select(choice: KernelChoice, device: torch.device, invariant: bool) -> Kernels:
    on_gpu = device.type == "cuda"
    match choice:
        case "auto":
            is_fused = on_gpu
        case "reference":
            is_fused = False
        case "fused":
            is_fused = True
        case _:
            raise NoSuchKernels(f"there are no kernels {choice!r}; known: {', '.join(get_args(KernelChoice))}")
    if is_fused:
        if not on_gpu:
            raise NoSuchKernels(f"fused kernels need an NVIDIA GPU, and the device is {device.type}")
        capability = torch.cuda.get_device_capability(device)
        if capability < (8, 0):
            raise NoSuchKernels(
                f"fused kernels need compute capability 8.0, and this GPU has {capability[0]}.{capability[1]}"
            )
        return Kernels.fused_invariant() if invariant else Kernels.fused()
    if not invariant:
        return Kernels.reference()
    if on_gpu:
        raise NoSuchKernels("reference kernels on a GPU are not invariant; the fused ones can be")
    return Kernels.invariant()
