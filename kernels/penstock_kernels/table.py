"""`Kernels`: the table of ops, passed in as a value. There is no global choice and no silent fallback."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch

from penstock_kernels.activation import Activate, GatedActivate
from penstock_kernels.activation import reference as activation
from penstock_kernels.copy_blocks import CopyBlocks
from penstock_kernels.copy_blocks import reference as copy_blocks
from penstock_kernels.gather_last import GatherLast
from penstock_kernels.gather_last import reference as gather_last
from penstock_kernels.layer_norm import LayerNorm
from penstock_kernels.layer_norm import reference as layer_norm
from penstock_kernels.linear import Linear, PackLinear
from penstock_kernels.linear import reference as linear
from penstock_kernels.logits import Logits
from penstock_kernels.logits import reference as logits
from penstock_kernels.paged_attention import PagedAttention, PlanAttention
from penstock_kernels.paged_attention import plan as attention_plan
from penstock_kernels.paged_attention import reference as paged_attention
from penstock_kernels.qkv_prepare import QkvPrepare
from penstock_kernels.qkv_prepare import reference as qkv_prepare
from penstock_kernels.rms_norm import RmsNorm
from penstock_kernels.rms_norm import reference as rms_norm

KernelChoice = Literal["auto", "reference", "fused"]


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
    paged_attention: PagedAttention
    pack_linear: PackLinear
    linear: Linear
    gather_last: GatherLast
    logits: Logits
    copy_blocks: CopyBlocks

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
            paged_attention=paged_attention.paged_attention,
            pack_linear=linear.pack_linear,
            linear=linear.linear,
            gather_last=gather_last.gather_last,
            logits=logits.logits,
            copy_blocks=copy_blocks.copy_blocks,
        )

    @classmethod
    def invariant(cls) -> "Kernels":
        """The reference on a CPU with bf16 instructions, with a token's bits independent of what shares its batch."""
        return replace(cls.reference(), name="invariant", pack_linear=linear.pack_linear_invariant)

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


def select_kernels(choice: KernelChoice, device: torch.device, *, invariant: bool = False) -> Kernels:
    """The table for a choice. `auto` is fused on an NVIDIA GPU and the reference elsewhere.

    `invariant`: a token's bits are not to depend on what shares its batch.

    Raises:
        NoSuchKernels: the choice cannot be had on this device; says why.
    """
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
