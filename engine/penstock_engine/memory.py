"""How much memory there is for the KV cache, and how many blocks that makes. Torch-free but for asking a GPU."""

import os
from dataclasses import dataclass
from pathlib import Path

from penstock_engine.errors import EngineStartError

# Of what is free once the weights are loaded. A GPU has nothing else to hold; a CPU's memory belongs to others too.
GPU_SHARE = 0.9
CPU_SHARE = 0.3

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class CacheSize:
    """The size of the KV cache and the longest request it leaves room for. Lengths in tokens."""

    num_blocks: int
    max_model_len: int


def available_cpu_bytes() -> int:
    """Memory that can be used without swapping, within this process's control group."""
    available = _available_on_machine()
    limit, used = _read_number(_CGROUP / "memory.max"), _read_number(_CGROUP / "memory.current")
    if limit is not None and used is not None:
        available = min(available, max(limit - used, 0))
    return available


def cache_size(
    *,
    bytes_per_block: int,
    block_size: int,
    free_bytes: int,
    share: float,
    asked_bytes: int | None,
    max_positions: int,
    asked_len: int | None,
    max_rows: int,
) -> CacheSize:
    """How many blocks to hold, and for requests of what length.

    Unless told, no more than all rows at full length could use; and if a full-length request does not fit, the length
    comes down to what does, unless that length was asked for.

    Raises:
        EngineStartError: what was asked for does not fit together; says the numbers.
    """
    if asked_len is not None and asked_len > max_positions:
        raise EngineStartError(f"max_model_len is {asked_len}, but the model knows only {max_positions} positions")
    wanted_len = asked_len or max_positions
    if asked_bytes is not None:
        num_blocks = asked_bytes // bytes_per_block
    else:
        num_blocks = min(int(free_bytes * share) // bytes_per_block, max_rows * -(-wanted_len // block_size))
    num_tokens = num_blocks * block_size
    if num_tokens < 2 * block_size:
        budget = f"{asked_bytes} bytes" if asked_bytes is not None else f"{free_bytes} free bytes"
        raise EngineStartError(
            f"no room for a KV cache: {budget}, and a block of {block_size} tokens takes {bytes_per_block} bytes"
        )
    if asked_len is not None and num_tokens < asked_len:
        raise EngineStartError(
            f"max_model_len is {asked_len}, but the KV cache holds only {num_tokens} tokens "
            f"({num_blocks} blocks of {bytes_per_block} bytes); give more kv_cache_memory or a shorter max_model_len"
        )
    return CacheSize(num_blocks, min(wanted_len, num_tokens))


def _available_on_machine() -> int:
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None
