"""Every op of the table has its contract, its reference, its cases and its test."""

from pathlib import Path

import penstock_kernels

PACKAGE = Path(penstock_kernels.__file__).parent


def test_every_op_is_complete() -> None:
    ops = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
    assert "paged_attention" in ops
    for op in ops:
        assert (PACKAGE / op / "reference.py").exists(), op
        assert (PACKAGE / op / "cases.py").exists(), op
        assert (Path(__file__).parent / f"test_{op}.py").exists(), op
