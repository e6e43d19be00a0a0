"""`PerParams`: what a processor makes of a request's parameters once, and needs in every step.

All rows of a request hold the same parameter object, so it is found by identity; equal parameters of two requests are
prepared twice. The least recently used are forgotten: they are made again when they are asked for again.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

P = TypeVar("P")
M = TypeVar("M")

MAX_KEPT = 1024


class PerParams(Generic[P, M]):
    """`make(params)` for each of the parameter objects last asked for."""

    def __init__(self, make: Callable[[P], M], max_kept: int = MAX_KEPT) -> None:
        self._make = make
        self._max_kept = max_kept
        # The object is kept beside what it gave, so that its identity cannot pass to another one.
        self._kept: OrderedDict[int, tuple[P, M]] = OrderedDict()

    def of(self, params: P) -> M:
        """What `make` gave for this very object."""
        kept = self._kept.get(id(params))
        if kept is None:
            kept = self._kept[id(params)] = params, self._make(params)
            if len(self._kept) > self._max_kept:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(id(params))
        return kept[1]
