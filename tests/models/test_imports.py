"""What the API process imports of this package must not bring torch, nor numpy."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["config", "architecture", "errors", "spec", "families", "parameters"])
def test_torch_free(module: str) -> None:
    check = f"import sys, penstock_models.{module}; sys.exit(bool({{'torch', 'numpy'}} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", check], check=True)
