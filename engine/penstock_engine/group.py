"""`Group`: a request's live sequences and its strategy."""

from dataclasses import dataclass, field

import numpy as np

from penstock_decoding.guarded_strategy import GuardedStrategy
from penstock_decoding.strategy import StopRule
from penstock_engine.prefix_hash import root_digest
from penstock_engine.record import Record
from penstock_engine.request import GenerationRequest
from penstock_engine.sequence import Sequence
from penstock_engine.watch import Watch


@dataclass(slots=True, eq=False)
class Group:
    """A request on its way: all its rows are scheduled, preempted and advanced together.

    Invariant: every live row has the same number of output tokens, `num_generated`.
    """

    request: GenerationRequest
    arrival: int
    root: bytes
    strategy: GuardedStrategy
    stop: StopRule
    rows: list[Sequence]
    num_generated: int = 0
    num_cached_tokens: int = 0
    was_admitted: bool = False
    record: Record = field(default_factory=Record)
    watch: Watch | None = None

    @classmethod
    def of(cls, request: GenerationRequest, strategy: GuardedStrategy, arrival: int, slot: int, salt: str) -> "Group":
        """A group with one row that holds the prompt."""
        stop = StopRule(np.asarray(request.stop.token_ids, np.int64), request.stop.min_tokens, request.stop.max_tokens)
        watch = Watch() if request.is_watched else None
        return cls(request, arrival, root_digest(salt), strategy, stop, [Sequence(slot, request.prompt)], watch=watch)

    @property
    def order(self) -> tuple[int, int]:
        """Sorts groups: who is served first, and preempted last."""
        return self.request.priority, self.arrival

    @property
    def is_ready(self) -> bool:
        """Whether one more token for each row is all that the next draw needs."""
        return all(row.num_missing == 1 for row in self.rows)
