"""Merges the chains of all rows into one list of stages, so that rows with different chains share one pass."""

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from penstock_decoding.params import Step
from penstock_decoding.processor import Ask, Row
from penstock_decoding.processors import DEFAULT_ORDER


@dataclass(frozen=True, slots=True)
class Stage:
    """One processor's turn, and the rows that take part in it."""

    processor: str
    asks: list[Ask[Any]]

    def without(self, rows: Container[int]) -> "Stage":
        """The stage without the rows of these indices."""
        return Stage(self.processor, [ask for ask in self.asks if ask.row.index not in rows]) if rows else self


def merge_chains(rows: Sequence[tuple[Row, Sequence[Step]]]) -> list[Stage]:
    """Stages in which every row meets the processors of its own chain, each once and in the chain's order.

    A common supersequence, built greedily: the next stage is the processor that comes earliest in the default order
    among those that the most chains wait for. Rows with the default chain thus never cost more than one stage each.
    """
    by_order: dict[tuple[str, ...], list[tuple[Row, Sequence[Step]]]] = {}
    for row, chain in rows:
        if chain:
            by_order.setdefault(tuple([step.name for step in chain]), []).append((row, chain))
    progress = dict.fromkeys(by_order, 0)
    stages = []
    while progress:
        processor = _next_processor(progress)
        taking_part = [order for order, done in progress.items() if order[done] == processor]
        asks = [Ask(row, chain[progress[order]].params) for order in taking_part for row, chain in by_order[order]]
        asks.sort(key=lambda ask: ask.row.index)
        stages.append(Stage(processor, asks))
        for order in taking_part:
            progress[order] += 1
            if progress[order] == len(order):
                del progress[order]
    return stages


def _next_processor(progress: dict[tuple[str, ...], int]) -> str:
    waiting = Counter(order[done] for order, done in progress.items())
    # A processor that some chain still needs later, behind another one, is better left until then.
    later = {name for order, done in progress.items() for name in order[done + 1 :]}
    ready = [name for name in waiting if name not in later] or list(waiting)
    return min(ready, key=lambda name: (-waiting[name] if name in later else 0, _rank(name)))


def _rank(name: str) -> int:
    return DEFAULT_ORDER.index(name) if name in DEFAULT_ORDER else len(DEFAULT_ORDER)
