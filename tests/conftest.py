"""What holds for every test."""

import os
import signal

import torch

# Without a GPU, Triton's kernels run under its interpreter. It decides when a kernel is defined, so this comes first.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_configure() -> None:
    """A run that a shell started in the background ignores Ctrl-C, and so does every process it starts: tests that
    interrupt would wait for ever."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
