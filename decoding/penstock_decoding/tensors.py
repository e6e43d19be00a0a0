"""Small bridges from host arrays to the device of a score tensor; importing them does not load torch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


def float_tensor(scores: "Tensor", values: Sequence[float] | NDArray[np.float32]) -> "Tensor":
    """float32 [len(values)] on the device of `scores`."""
    return scores.new_tensor(values)


def index_tensor(scores: "Tensor", values: Sequence[int] | NDArray[np.int64]) -> "Tensor":
    """int64 [len(values)] on the device of `scores`."""
    return scores[:0].long().new_tensor(values)


def word_tensor(scores: "Tensor", values: NDArray[np.int32]) -> "Tensor":
    """int32, of the shape of `values`, on the device of `scores`."""
    return scores[:0].int().new_tensor(values)


def bool_tensor(scores: "Tensor", values: NDArray[np.bool_]) -> "Tensor":
    """bool, of the shape of `values`, on the device of `scores`."""
    return scores[:0].bool().new_tensor(values)


def exclude_below(values: "Tensor", floors: "Tensor") -> None:
    """Give -inf to what is lower than its row's floor; `values` [rows, vocab] in place, `floors` [rows, 1].

    A floor that is NaN excludes nothing.
    """
    import torch

    if values.device.type != "cpu":
        values.masked_fill_(values < floors, float("-inf"))
        return
    # Row by row, `threshold_` is vectorised and makes no mask: a twelfth of the time of `masked_fill_` on a CPU.
    highest_out = torch.nextafter(floors, floors.new_tensor(float("-inf"))).flatten().tolist()
    for row, highest in zip(values, highest_out, strict=True):
        torch.threshold_(row, highest, float("-inf"))


class RowSelection:
    """Some rows of a score tensor, in ascending order: read as one tensor, written back in place.

    Neighbouring rows are a view, so that a step in which every row asks copies nothing.
    """

    def __init__(self, rows: Sequence[int]) -> None:
        self._rows = rows
        self._is_range = rows[-1] - rows[0] + 1 == len(rows)

    def take(self, scores: "Tensor") -> "Tensor":
        """The selected rows [len(rows), vocab]; may be changed, and counts only after `put`."""
        if self._is_range:
            return scores[self._rows[0] : self._rows[-1] + 1]
        return scores.index_select(0, index_tensor(scores, self._rows))

    def put(self, scores: "Tensor", values: "Tensor") -> None:
        """Write what `take` returned, after it was changed in place, back into `scores`."""
        if not self._is_range:
            scores.index_copy_(0, index_tensor(scores, self._rows), values)
