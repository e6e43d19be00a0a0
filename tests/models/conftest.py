"""Checkpoints that several tests load, each written once."""

from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import write_checkpoint

from penstock_kernels import Kernels
from penstock_models.loader import LoadedModel, load_checkpoint


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float32 Llama in one file. Do not change it: copy it first."""
    folder = tmp_path_factory.mktemp("llama")
    write_checkpoint(folder, "llama")
    return folder


@pytest.fixture(scope="session")
def llama(llama_folder: Path) -> LoadedModel:
    return load_checkpoint(llama_folder, dtype="float32", device=torch.device("cpu"), kernels=Kernels.reference())


@pytest.fixture
def oracle(tmp_path: Path) -> Any:
    """`oracle(family, **overrides)`: a transformers model, and the same weights loaded by us."""

    def make(family: str, **overrides: Any) -> tuple[Any, LoadedModel]:
        model = write_checkpoint(tmp_path, family, **overrides)
        loaded = load_checkpoint(tmp_path, dtype="auto", device=torch.device("cpu"), kernels=Kernels.reference())
        return model, loaded

    return make
