"""`Runner`: what the engine needs of a model: the logits of a batch. Torch is only named here, never imported.

`LaunchingRunner` is one that can also choose tokens itself, where it computes, so that the engine need not wait.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from penstock_decoding.sample_row import RowDraws, SampleRow
from penstock_engine.batch import Batch
from penstock_engine.group import Group
from penstock_engine.reading import PartRead

if TYPE_CHECKING:
    from torch import Tensor


class Runner(Protocol):
    """Computes batches, and keeps the KV cache that block ids point into."""

    def forward(self, batch: Batch) -> "Tensor":
        """Copy the batch's blocks, compute its tokens, write their keys and values.

        Returns logits [entries that want them, vocab] float32, in the batch's order; the caller may change them.
        """
        ...

    def forward_and_read(self, batch: Batch) -> "tuple[Tensor, dict[Group, PartRead]]":
        """As `forward`, with what is told of each group whose prompt is read in this batch (`Batch.is_read`)."""
        ...


class LaunchedStep(Protocol):
    """A decoding step that is under way."""

    def draws(self) -> list[RowDraws]:
        """Wait for the step to end. What its rows gave, in the batch's order. Called once."""
        ...


@runtime_checkable
class LaunchingRunner(Runner, Protocol):
    """A runner that computes decoding steps with the choice of their tokens, and lets nobody wait for them.

    Steps are computed in the order in which they are launched, and before any later `forward`. At most two are under
    way: a step has been waited for before the next but one is launched.
    """

    def takes(self, row: SampleRow) -> bool:
        """Whether it can choose this row's next token as the sampler would. Cheap: asked for every row and step."""
        ...

    def launch(self, batch: Batch, rows: Sequence[SampleRow]) -> LaunchedStep | None:
        """Begin a step of one token for each entry, with nothing to copy; `rows`: how to choose the next ones.

        None, with nothing begun, if the batch is more than was set aside for launched steps.

        A sequence with tokens that are still flying goes on from the one that the step launched before it chooses. The
        rows' sequences lack these, so `Row.position` is behind by as many; `Row.index` means nothing.
        """
        ...

    def release(self, slot: int) -> None:
        """The sequence is over. A step under way may still compute a token for it, which nobody wants."""
        ...
