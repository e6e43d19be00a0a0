"""The multiprocessors that kernels are compiled for, and how many warps of a kernel fit on one."""

from collections.abc import Mapping
from dataclasses import dataclass

WARP = 32


@dataclass(frozen=True, slots=True)
class Multiprocessor:
    """Limits of one multiprocessor: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".

    registers: 32-bit registers in all; each of the 4 quarters, which issue on their own, has a quarter of them.
    shared, block_shared: bytes of shared memory in all, and the most that one block can have.
    """

    capability: int
    example: str
    max_warps: int = 64
    max_blocks: int = 32
    registers: int = 65536
    shared: int = 0
    block_shared: int = 0


PROCESSORS: Mapping[int, Multiprocessor] = {
    processor.capability: processor
    for processor in (
        Multiprocessor(80, "A100", shared=164 * 1024, block_shared=163 * 1024),
        Multiprocessor(90, "H100, H200", shared=228 * 1024, block_shared=227 * 1024),
    )
}

_QUARTERS = 4
# Registers are handed to a warp in pieces of 256, shared memory to a block in pieces of 128 bytes, and the system keeps
# 1 KiB of it per block (CUDA occupancy calculator).
_REGISTER_PIECE = 256
_SHARED_PIECE = 128
_SHARED_RESERVED = 1024


def resident_blocks(processor: Multiprocessor, num_warps: int, registers: int, shared: int) -> int:
    """How many blocks of a kernel run on one multiprocessor at once; 0 if none can.

    Args:
        registers: per thread.
        shared: bytes per block, as the kernel asks for them.
    """
    if shared > processor.block_shared:
        return 0
    per_warp = _round_up(registers * WARP, _REGISTER_PIECE)
    warps_by_registers = processor.registers // _QUARTERS // per_warp * _QUARTERS
    return min(
        processor.max_blocks,
        processor.max_warps // num_warps,
        warps_by_registers // num_warps,
        processor.shared // _round_up(shared + _SHARED_RESERVED, _SHARED_PIECE),
    )


def _round_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
