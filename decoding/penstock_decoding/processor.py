"""`Processor` and `Plan`: the interface of everything that reshapes a distribution.

A processor works in two halves. `plan` runs on the host once per step and sees only the rows that ask for it; it may be
slow per request but not per vocabulary entry. The `Plan` it returns edits the scores on their device.

A processor's file never imports torch: a plan reaches the scores through their own methods, and makes index tensors
with `tensors.py`. So the HTTP server can import every `Params` without loading torch.

State follows the sequence, not the row: it is keyed by `Row.slot`, which is stable while rows are reordered, preempted
and resumed. A processor learns what was appended from `Row.output` at its next plan and not from the draw: which draws
become tokens, and of which branch, is known only after the strategy has advanced.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the scores and the sequence behind it. The sequences are live views: read, never change them.

    `index` is the row in this step's scores; `slot` names the sequence for as long as it lives. What a processor
    leaves to chance is a function of (`seed`, `sample`, `position`); `sample` is the first sample that the row carries.
    """

    index: int
    slot: int
    prompt: Sequence[int]
    output: Sequence[int]
    stop_token_ids: Sequence[int]
    seed: int = 0
    sample: int = 0

    @property
    def position(self) -> int:
        """The absolute position of the token to be chosen."""
        return len(self.prompt) + len(self.output)


@dataclass(frozen=True, slots=True)
class Ask(Generic[P]):
    """A row that asks for a processor, and the parameters it asks with."""

    row: Row
    params: P


class Plan(Protocol):
    """One processor's work in one step."""

    def apply(self, scores: "Tensor") -> None:
        """Edit the planned rows of `scores` [rows, vocab] float32 in place; other rows keep their values bit for bit.

        Runs on the scores' device. An excluded token gets -inf; at least one token of each row stays finite.
        """
        ...


class Processor(Protocol):
    """Edits the scores of the rows that ask for it."""

    Params: type[Any]

    def plan(self, asks: Sequence[Ask[Any]]) -> Plan | None:
        """This step's work for these rows, in order of row index; None when there is nothing to do."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """A processor that remembers something about each sequence, by slot. A slot it never met is not an error."""

    def fork(self, source: int, target: int) -> None:
        """The sequence in slot `target` begins as a copy of the one in `source`."""
        ...

    def rollback(self, slot: int, num_kept: int) -> None:
        """The sequence's answer is cut back to its first `num_kept` tokens."""
        ...

    def release(self, slot: int) -> None:
        """The sequence is over; the slot may be given to another one."""
        ...


@runtime_checkable
class NamesTokens(Protocol):
    """Parameters that name token ids, which must lie inside the vocabulary."""

    def named_tokens(self) -> Iterable[int]:
        """Every token id named."""
        ...


@runtime_checkable
class NeedsStop(Protocol):
    """Parameters, of a processor or a strategy, that do not go with every way of ending an answer."""

    def check_stop(self, stop_token_ids: Sequence[int], min_tokens: int, max_tokens: int) -> None:
        """Raise `ParameterError` if no answer could be what these parameters want and end like this."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """A processor whose parameters can take long to make ready, and can turn out to be of no use. It has threads."""

    def prepare(self, params: Any) -> Future[None]:
        """Begin; the future raises `ParameterError` if no sequence can ask with these parameters, `Busy` if not now."""
        ...


@runtime_checkable
class WorksAhead(Protocol):
    """A processor that needs long for its next plan, and has threads that begin while the model computes.

    That it was told to begin is no condition for a plan: a plan waits for what it needs.
    """

    def ahead(self, ask: Ask[Any]) -> None:
        """Begin for the next plan of this sequence, as it is now. `row.index` means nothing yet."""
        ...

    def awaited(self, slot: int) -> "Future[Any] | None":
        """What the sequence's next plan would wait for; None for nothing."""
        ...
