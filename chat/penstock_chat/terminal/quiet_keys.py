"""Keys that are pressed while a reply comes do not show up in it.

For a whole session: between a reply's end and the prompt the terminal must not echo either.
"""

import contextlib
import sys
import termios
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_keys() -> Iterator[None]:
    """No echo from the terminal; what is typed waits for the prompt. Ctrl-C keeps its meaning."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    quiet = termios.tcgetattr(descriptor)
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(descriptor, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
