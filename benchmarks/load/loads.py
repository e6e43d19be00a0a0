"""`Load`: how requests are sent over time. A sweep is a list of them."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """`concurrency` requests at any time: one ends, the next is sent."""

    concurrency: int

    @property
    def label(self) -> str:
        return f"concurrency {self.concurrency}"

    @property
    def amount(self) -> float:
        return float(self.concurrency)

    @property
    def slots(self) -> int | None:
        return self.concurrency


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Requests arrive whether or not the server keeps up; with a cap they wait in the client for one of its slots."""

    rate: float
    burstiness: float = 1.0
    max_concurrency: int | None = None

    @property
    def label(self) -> str:
        return "all at once" if math.isinf(self.rate) else f"{self.rate:g} requests/s"

    @property
    def amount(self) -> float:
        return self.rate

    @property
    def slots(self) -> int | None:
        return self.max_concurrency


@dataclass(frozen=True, slots=True)
class Traced:
    """Requests arrive as a trace says, `speed` times as fast."""

    speed: float = 1.0
    max_concurrency: int | None = None

    @property
    def label(self) -> str:
        return f"trace at {self.speed:g}x"

    @property
    def amount(self) -> float:
        return self.speed

    @property
    def slots(self) -> int | None:
        return self.max_concurrency


Load = ClosedLoop | OpenLoop | Traced

# What a load's amount is called on an axis.
AMOUNTS = {"ClosedLoop": "requests at once", "OpenLoop": "requests per second", "Traced": "speed of the trace"}


def load_record(load: Load) -> dict[str, Any]:
    """A load as JSON values; an infinite rate, which JSON lacks, as null."""
    fields = {"kind": type(load).__name__, "label": load.label, "axis": AMOUNTS[type(load).__name__]}
    amount = load.amount
    record: dict[str, Any] = {**fields, "amount": None if math.isinf(amount) else amount, "slots": load.slots}
    if isinstance(load, OpenLoop):
        record["burstiness"] = None if math.isinf(load.burstiness) else load.burstiness
    return record
