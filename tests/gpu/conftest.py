"""Where there is no GPU: products as a matrix unit makes them."""

from collections.abc import Iterator
from typing import Any

import pytest
from kernel_tables import IS_INTERPRETED


@pytest.fixture(autouse=True, scope="module")
def rows_are_multiplied_alike() -> Iterator[None]:
    """The interpreter asks a BLAS for a product of tiles, in which the order of a row's sums depends on the number of
    rows. A matrix unit has one order."""
    with pytest.MonkeyPatch.context() as patch:
        if IS_INTERPRETED:
            from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

            def create_dot(self: Any, a: Any, b: Any, d: Any, input_precision: Any, max_num_imprecise_acc: Any) -> Any:
                total = d.data
                for column, row in zip(a.data.T, b.data, strict=True):
                    total = total + column[:, None] * row
                return TensorHandle(total, d.dtype.scalar)

            patch.setattr(InterpreterBuilder, "create_dot", create_dot)
        yield
