"""`Kernels`: the table of ops, passed in as a value. There is no global choice and no silent fallback."""

from dataclasses import dataclass, replace
from typing import Literal

import torch

from penstock_kernels.activation import Activate, GatedActivate
from penstock_kernels.activation import reference as activation
from penstock_kernels.copy_blocks import CopyBlocks
from penstock_kernels.copy_blocks import reference as copy_blocks
from penstock_kernels.layer_norm import LayerNorm
from penstock_kernels.layer_norm import reference as layer_norm
from penstock_kernels.linear import Linear, PackLinear
from penstock_kernels.linear import reference as linear
from penstock_kernels.logits import Logits
from penstock_kernels.logits import reference as logits
from penstock_kernels.paged_attention import PagedAttention
from penstock_kernels.paged_attention import reference as paged_attention
from penstock_kernels.rms_norm import RmsNorm
from penstock_kernels.rms_norm import reference as rms_norm
from penstock_kernels.rotary import Rotary
from penstock_kernels.rotary import reference as rotary
from penstock_kernels.write_kv import WriteKv
from penstock_kernels.write_kv import reference as write_kv

KernelChoice = Literal["auto", "reference", "invariant"]


@dataclass(frozen=True, slots=True)
class Kernels:
    """One implementation of every op. Each field's type holds the contract; see the op's folder."""

    name: str
    rms_norm: RmsNorm
    layer_norm: LayerNorm
    rotary: Rotary
    activate: Activate
    gated_activate: GatedActivate
    write_kv: WriteKv
    paged_attention: PagedAttention
    pack_linear: PackLinear
    linear: Linear
    logits: Logits
    copy_blocks: CopyBlocks

    @classmethod
    def reference(cls) -> "Kernels":
        """Plain torch: the specification of every op, and what runs on a CPU."""
        return cls(
            name="reference",
            rms_norm=rms_norm.rms_norm,
            layer_norm=layer_norm.layer_norm,
            rotary=rotary.rotary,
            activate=activation.activate,
            gated_activate=activation.gated_activate,
            write_kv=write_kv.write_kv,
            paged_attention=paged_attention.paged_attention,
            pack_linear=linear.pack_linear,
            linear=linear.linear,
            logits=logits.logits,
            copy_blocks=copy_blocks.copy_blocks,
        )

    @classmethod
    def invariant(cls) -> "Kernels":
        """The reference on a CPU with bf16 instructions, with a token's bits independent of what shares its batch."""
        return replace(cls.reference(), name="invariant", pack_linear=linear.pack_linear_invariant)


def select_kernels(choice: KernelChoice, device: torch.device) -> Kernels:
    """The table for a choice. `auto` is the fastest table that runs on `device`: today the reference on every device.

    Raises:
        ValueError: no table has that name.
    """
    match choice:
        case "auto" | "reference":
            return Kernels.reference()
        case "invariant":
            return Kernels.invariant()
        case _:
            raise ValueError(f"unknown kernels {choice!r} for {device}; known: auto, reference, invariant")
