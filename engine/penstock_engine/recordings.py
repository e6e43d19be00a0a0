"""A step as a function of tensors that stay where they are: called, or recorded once as a CUDA graph and replayed.

A recorded step costs the host one launch instead of some hundreds. Nothing in it may depend on the host: it reads fixed
tensors, whose content changes between replays, and gives the same tensors each time.
"""

from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

import torch

T = TypeVar("T")


class Recordings(Protocol[T]):
    """Steps by key. What a step gives is valid until the next one is played, of any key."""

    def __contains__(self, key: Hashable) -> bool: ...

    def record(self, key: Hashable, step: Callable[[], T]) -> None:
        """Make a step ready. It runs, and more than once perhaps, so its inputs must be such that this does no harm."""
        ...

    def play(self, key: Hashable) -> T:
        """Run a step that was recorded, on the current stream."""
        ...


class Eager(Generic[T]):
    """Calls the function each time."""

    def __init__(self) -> None:
        self._steps: dict[Hashable, Callable[[], T]] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._steps

    def record(self, key: Hashable, step: Callable[[], T]) -> None:
        step()  # compiles what is compiled at the first call, as recording does
        self._steps[key] = step

    def play(self, key: Hashable) -> T:
        return self._steps[key]()


class CudaGraphs(Generic[T]):
    """Replays graphs. All share one pool of memory: no two run at once, and none reads what another one left there."""

    def __init__(self, device: torch.device) -> None:
        self._graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, T]] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self._stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __contains__(self, key: Hashable) -> bool:
        return key in self._graphs

    def record(self, key: Hashable, step: Callable[[], T]) -> None:
        # Run it first: Triton compiles, cuBLAS and others set up what they keep, none of which may happen in a capture.
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            step()
        torch.cuda.current_stream().wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            result = step()
        # The tensors of the result are kept, so that a graph recorded later does not take their memory.
        self._graphs[key] = graph, result

    def play(self, key: Hashable) -> T:
        graph, result = self._graphs[key]
        graph.replay()
        return result


def ladder(most: int) -> list[int]:
    """The numbers of rows that steps are recorded for: 1, 2, 4, 8, then every eighth, and the most there can be."""
    return sorted({size for size in (1, 2, 4, 8, *range(16, most, 8)) if size < most} | {most})
