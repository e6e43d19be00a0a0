"""Every op of the table has its contract, its reference, its fused form, its cases, its test and its benchmark."""

from dataclasses import fields
from pathlib import Path

import pytest

import penstock_kernels
from penstock_kernels import Kernels

PACKAGE = Path(penstock_kernels.__file__).parent
ROOT = Path(__file__).parent.parent.parent
OPS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
CONTRACTS = {field.name: field.type for field in fields(Kernels) if field.name != "name"}


def folder_of(contract: object) -> str:
    """Where the contract of an entry of the table is."""
    return getattr(contract, "__module__", "").removeprefix("penstock_kernels.").partition(".")[0]


def test_the_folders_are_the_ops_of_the_table() -> None:
    assert {folder_of(contract) for contract in CONTRACTS.values()} == set(OPS)


@pytest.mark.parametrize("op", OPS)
def test_every_op_is_complete(op: str) -> None:
    for path in (
        PACKAGE / op / "reference.py",
        PACKAGE / op / "cases.py",
        ROOT / "tests" / "kernels" / f"test_{op}.py",
        ROOT / "benchmarks" / "kernels" / f"{op}.py",
    ):
        assert path.is_file(), path
    assert (PACKAGE / op / "fused.py").is_file() or (PACKAGE / op / "fused" / "__init__.py").is_file()


@pytest.mark.parametrize("name", CONTRACTS)
def test_every_entry_has_a_contract(name: str) -> None:
    assert getattr(CONTRACTS[name], "__doc__", None)


@pytest.mark.parametrize("name", CONTRACTS)
def test_every_entry_has_a_fused_form(name: str) -> None:
    """Another function than the reference's, in both tables of fused kernels."""
    reference = getattr(Kernels.reference(), name)
    assert getattr(Kernels.fused(), name) is not reference
    assert getattr(Kernels.fused_invariant(), name) is not reference


@pytest.mark.parametrize("op", OPS)
def test_every_test_runs_over_all_tables(op: str) -> None:
    """A test that knew only the reference would pass on a GPU without having run there."""
    text = (ROOT / "tests" / "kernels" / f"test_{op}.py").read_text()
    assert "TABLES" in text and "DEVICE" in text
