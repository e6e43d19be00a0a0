"""What the launchers can choose is said beforehand, and compiles for a GPU that is not there."""

import subprocess
import sys
from pathlib import Path

import pytest
from kernel_launches import CAPABILITIES, OPS, configurations

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_configurations_are_whole(op: str, capability: int) -> None:
    """Each argument of the kernel has a type or a value, names tell configurations apart, a spill is given a reason."""
    found = configurations(op, capability)
    assert found
    assert len({configuration.name for configuration in found}) == len(found)
    for configuration in found:
        assert configuration.op == op
        names = set(configuration.kernel.arg_names)
        assert set(configuration.types).isdisjoint(configuration.constants)
        assert names == {*configuration.types, *configuration.constants}, configuration.name
        assert configuration.aligned <= set(configuration.types), configuration.name
        assert configuration.num_warps in (1, 2, 4, 8, 16) and configuration.num_stages >= 1
        assert configuration.spill_free or configuration.why_spills, configuration.name


def test_float8_is_left_out_where_the_processor_has_none() -> None:
    for op in OPS:
        assert not any("fp8e4nv" in kind for c in configurations(op, 80) for kind in c.types.values()), op


def test_a_sample_of_them_compiles() -> None:
    """All of them are compiled by `make check-kernels`. In a process of its own: this one may be interpreting."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "kernel_resources.py"), "--sample"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
