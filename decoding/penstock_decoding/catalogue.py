"""`Catalogue`: every processor and strategy that a request can name, as one value that is passed to whoever needs it.

What is shipped stands in two tables; plug-ins add to a copy (`plugins.py`). Nothing changes a catalogue once it is
made, so what the server validates with and what the engine runs cannot drift apart while they serve.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from penstock_decoding.processor import Processor
from penstock_decoding.processors import DEFAULT_ORDER, PROCESSORS
from penstock_decoding.strategies import STRATEGIES
from penstock_decoding.strategy import Strategy

Kind = Literal["processor", "strategy"]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Processors and strategies by name.

    `default_order`: the processors of the default chain, first to last. `origins`: for each plug-in, by kind and name,
    where it was loaded from; what is shipped has none.
    """

    processors: Mapping[str, type[Processor]]
    strategies: Mapping[str, type[Strategy]]
    default_order: tuple[str, ...] = DEFAULT_ORDER
    origins: Mapping[tuple[Kind, str], str] = field(default_factory=lambda: MappingProxyType({}))

    def is_plugin(self, kind: Kind, name: str) -> bool:
        """Whether this processor or strategy did not come with Penstock."""
        return (kind, name) in self.origins

    def called(self, kind: Kind, name: str) -> str:
        """What a message calls it."""
        return f"the plug-in {kind} {name!r}" if self.is_plugin(kind, name) else f"the {kind} {name!r}"


SHIPPED = Catalogue(MappingProxyType(PROCESSORS), MappingProxyType(STRATEGIES))
"""What comes with Penstock."""
