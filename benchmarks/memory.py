"""How much memory a process of ours takes, as the kernel counts it. Linux only. Sizes in bytes.

The kernel keeps the peak and resets it on request, so that nothing between two samples is missed.
"""

from pathlib import Path


def resident_memory() -> int:
    """What this process holds in memory now."""
    return _status("VmRSS")


def peak_memory() -> int:
    """The most it held since it started, or since `reset_peak`."""
    return _status("VmHWM")


def reset_peak() -> None:
    """Let the peak begin anew at what is held now; see clear_refs in proc(5)."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
