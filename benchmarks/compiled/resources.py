"""`Task`, a configuration to compile, and `Resources`, what it takes: a row of the table. No Triton here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Task:
    """One configuration for one kind of multiprocessor.

    index: in `compiling.configurations(op, capability)`. digest: of all that decides what the compiler makes of it.
    """

    op: str
    capability: int
    index: int
    name: str
    digest: str

    @property
    def arch(self) -> str:
        return f"sm_{self.capability}"

    @property
    def key(self) -> tuple[str, str, str]:
        return self.op, self.arch, self.name


@dataclass(frozen=True, slots=True)
class Resources:
    """One configuration, compiled.

    arch: sm_80, sm_90. num_warps: per block, those that the compiler added included.
    registers: per thread. spilled: bytes of local memory per thread; 0 where every value stays in a register.
    shared: bytes per block. occupancy: share of the warp slots that are taken with as many blocks as fit.
    matrix: the matrix instructions in the PTX, sorted.
    why_spills: why the configuration may spill; empty where it must not.
    """

    op: str
    name: str
    arch: str
    num_warps: int
    num_stages: int
    registers: int
    spilled: int
    shared: int
    blocks: int
    occupancy: float
    matrix: tuple[str, ...]
    why_spills: str
    may_spill: bool
    digest: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.op, self.arch, self.name

    @property
    def fault(self) -> str | None:
        """Why this configuration is not fit to ship, or None."""
        if self.blocks == 0:
            return f"does not fit: {self.registers} registers x {self.num_warps} warps, {self.shared} bytes shared"
        if self.spilled and not self.may_spill:
            return f"spills {self.spilled} bytes per thread ({self.registers} registers)"
        return None


@dataclass(frozen=True, slots=True)
class Failure:
    """A configuration that did not compile."""

    op: str
    name: str
    arch: str
    message: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.op, self.arch, self.name
