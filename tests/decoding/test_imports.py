"""What the HTTP server imports of this package loads no torch."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "params",
        "errors",
        "finish",
        "processors",
        "strategies",
        "read",
        "philox",
        "chain",
        "tensors",
        "largest",
        "catalogue",
        "plugins",
        "guarded_strategy",
    ],
)
def test_no_torch(module: str) -> None:
    """Validating a request, in a process of its own, never pays for torch: seconds of start and hundreds of MB."""
    code = f"import sys, penstock_decoding.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
