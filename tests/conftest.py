"""What holds for every test."""

import signal


def pytest_configure() -> None:
    """A run that a shell started in the background ignores Ctrl-C, and so does every process it starts: tests that
    interrupt would wait for ever."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
