"""What holds for every test."""

import gc
import os
import signal
from collections.abc import Generator, Iterator

import pytest

# OpenMP reads it when torch loads it, here and in the servers that tests start. Where every core runs tests, a thread
# that spins at a barrier takes the core from the one it waits for: 20 answers of a server with two threads took 7.1 s
# of CPU time with the engine's own policy (`THREAD_POLICY`), and 2.7 s with threads that sleep at once.
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import torch

# Without a GPU, Triton's kernels run under its interpreter. It decides when a kernel is defined, so this comes first.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# They run with a configuration of their own, where nothing of ours is installed: `make test-clients`.
collect_ignore = ["clients"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The tensors are small: threads cost more than they bring, the more so on a busy machine, where they wait for one
    another. A test of what threads change asks for its own; `LLM` sets them for its process, which ends with its file.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What has been loaded by the time that all tests are known stays: to look through it again and again for cycles to
    free took 9 of the 123 seconds of 3419 tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


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
