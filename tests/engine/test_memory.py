"""How large the KV cache becomes, and what happens when what was asked for does not fit together."""

import pytest

from penstock_engine.errors import EngineStartError
from penstock_engine.memory import CacheSize, available_cpu_bytes, cache_size


def size(
    *,
    free_bytes: int = 100_000,
    asked_bytes: int | None = None,
    max_positions: int = 512,
    asked_len: int | None = None,
    max_rows: int = 4,
) -> CacheSize:
    """Blocks of 16 tokens and 160 bytes; half of what is free may be used."""
    return cache_size(
        bytes_per_block=160,
        block_size=16,
        free_bytes=free_bytes,
        share=0.5,
        asked_bytes=asked_bytes,
        max_positions=max_positions,
        asked_len=asked_len,
        max_rows=max_rows,
    )


def test_no_more_than_all_rows_can_use() -> None:
    """4 rows of 512 tokens are 128 blocks, though there is room for 312."""
    assert size() == CacheSize(num_blocks=128, max_model_len=512)


def test_no_more_than_its_share_of_free_memory() -> None:
    """With room for 10 blocks the longest request comes down to what they hold."""
    assert size(free_bytes=3200) == CacheSize(num_blocks=10, max_model_len=160)


def test_what_was_asked_for_is_kept() -> None:
    """Bytes and length as asked, even beyond what would be chosen."""
    assert size(asked_bytes=160 * 200, asked_len=100) == CacheSize(num_blocks=200, max_model_len=100)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"asked_len": 513}, ["max_model_len", "513", "512"]),
        ({"asked_len": 400, "asked_bytes": 3200}, ["max_model_len", "400", "320"]),
        ({"asked_bytes": 200}, ["200", "160"]),
        ({"free_bytes": 100}, ["100", "160"]),
    ],
)
def test_contradictions_are_errors_with_the_numbers(given: dict[str, int], words: list[str]) -> None:
    """Nothing is silently shrunk below what was asked for."""
    with pytest.raises(EngineStartError) as error:
        size(**given)
    assert all(word in str(error.value) for word in words)


def test_available_memory_is_plausible() -> None:
    """Between a hundred megabytes and a hundred terabytes, here and now."""
    assert 10**8 < available_cpu_bytes() < 10**14
