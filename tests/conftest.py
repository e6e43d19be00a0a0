"""What holds for every test."""

import os
import signal

import pytest
import torch

# Without a GPU, Triton's kernels run under its interpreter. It decides when a kernel is defined, so this comes first.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# They run with a configuration of their own, where nothing of ours is installed: `make test-clients`.
collect_ignore = ["clients"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where a GPU is, the engine takes it, with fused kernels, and so do all tests of it but those marked `cpu`."""
    if torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cpu") is not None:
                item.add_marker(pytest.mark.skip(reason="tells what holds on a CPU, and here is a GPU"))


def pytest_configure() -> None:
    """A run that a shell started in the background ignores Ctrl-C, and so does every process it starts: tests that
    interrupt would wait for ever."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
