"""`Group`: a request's live sequences and its strategy."""

from dataclasses import dataclass, field

import numpy as np

from penstock_decoding.guarded_strategy import GuardedStrategy
from penstock_decoding.strategy import StopRule
from penstock_engine.prefix_hash import root_digest
from penstock_engine.reading import Reading
from penstock_engine.record import Record
from penstock_engine.request import GenerationRequest
from penstock_engine.sequence import Sequence
from penstock_engine.watch import Watch


@dataclass(slots=True, eq=False)
class Group:
    """A request on its way: all its rows are scheduled, preempted and advanced together.

    Invariants: every live row has the same number of output tokens, `num_generated`. While the prompt is read there is
    one row, for the first token comes after that.
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
    reading: Reading | None = None

    @classmethod
    def of(cls, request: GenerationRequest, strategy: GuardedStrategy, arrival: int, slot: int, salt: str) -> "Group":
        """A group with one row that holds the prompt."""
        stop = StopRule(np.asarray(request.stop.token_ids, np.int64), request.stop.min_tokens, request.stop.max_tokens)
        watch = Watch() if request.is_watched else None
        reading = None if request.reading is None else Reading(request.reading, len(request.prompt))
        rows = [Sequence(slot, request.prompt)]
        return cls(request, arrival, root_digest(salt), strategy, stop, rows, watch=watch, reading=reading)

    @property
    def order(self) -> tuple[int, int]:
        """Sorts groups: who is served first, and preempted last."""
        return self.request.priority, self.arrival

    @property
    def generates(self) -> bool:
        """Whether tokens are wanted at all; if not, the request is over when its prompt has been read."""
        return self.stop.max_tokens > 0

    @property
    def max_live(self) -> int:
        """The most rows it can have at once."""
        return self.strategy.max_live if self.generates else 1

    @property
    def is_reading(self) -> bool:
        """Whether some of the prompt is still to be read."""
        return self.reading is not None and not self.reading.is_over

    @property
    def is_ready(self) -> bool:
        """Whether one more token for each row is all that the next draw needs."""
        return all(row.num_missing == 1 for row in self.rows)
