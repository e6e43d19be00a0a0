"""The scatter into the paged cache in torch."""

from torch import Tensor


def write_kv(kv: Tensor, cache: Tensor, slot_mapping: Tensor) -> None:
    """See `WriteKv`."""
    cache.index_copy_(0, slot_mapping, kv)
