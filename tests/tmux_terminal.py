"""A real terminal for tests: a program in a tmux server of its own, keys in, what the screen shows out."""

import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

WAIT_SECONDS = 30.0

_ids = itertools.count()


class Terminal:
    """A program that runs in a terminal of `width` columns and `height` rows."""

    def __init__(self, socket: str, exit_file: Path) -> None:
        self._socket, self._exit_file = socket, exit_file

    def tmux(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._socket, "-u", "-f", "/dev/null", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=WAIT_SECONDS).stdout

    def write(self, text: str) -> None:
        """Type characters, none of which names a key."""
        self.tmux("send-keys", "-l", "--", text)

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names: Enter, C-c, M-Enter, Up, Tab."""
        self.tmux("send-keys", "--", *keys)

    def enter(self, text: str) -> None:
        """Type a line, and send it when it stands there: what is shown next is of what it does."""
        self.write(text)
        typed = "".join(text.split())
        self.wait(lambda shown: "".join(shown.split()).endswith(typed), f"the echo of {text!r}")
        self.press("Enter")

    def paste(self, text: str) -> None:
        """As a terminal pastes: within brackets, if the program asked for them."""
        self.tmux("set-buffer", "--", text)
        self.tmux("paste-buffer", "-p", "-r")

    def resize(self, width: int, height: int) -> None:
        self.tmux("resize-window", "-x", str(width), "-y", str(height))

    def screen(self) -> str:
        """The visible rows, without empty ones at the end."""
        return self.tmux("capture-pane", "-p").rstrip()

    def everything(self) -> str:
        """What scrolled off as well."""
        return self.tmux("capture-pane", "-p", "-S", "-").rstrip()

    def exit_code(self) -> int | None:
        """None while the program runs."""
        code = self._exit_file.read_text() if self._exit_file.exists() else ""
        return int(code) if code.endswith("\n") else None

    def wait(self, until: Callable[[str], bool], what: str, seconds: float = WAIT_SECONDS) -> str:
        """All text, as soon as `until` is true of it."""
        deadline = time.monotonic() + seconds
        while not until(text := self.everything()):
            if time.monotonic() > deadline:
                pytest.fail(f"{what} did not come within {seconds:g} s; the terminal shows:\n{text}")
            time.sleep(0.02)
        return text

    def see(self, *texts: str) -> str:
        """All text, as soon as each of `texts` is in it."""
        return self.wait(lambda shown: all(text in shown for text in texts), f"{texts}")

    def at_prompt(self) -> str:
        """All text, as soon as an empty prompt is its last line."""
        return self.wait(lambda text: text.split("\n")[-1].rstrip() == ">", "a prompt")

    def ended(self) -> int:
        """The exit code, as soon as the program ended."""
        self.wait(lambda _: self.exit_code() is not None, "the program's end")
        code = self.exit_code()
        assert code is not None
        return code


@contextlib.contextmanager
def terminal(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], width: int = 100, height: int = 30
) -> Iterator[Terminal]:
    """`command` in a terminal, in `folder`, ended at the end whatever it does. Skips where there is no tmux."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed: no terminal to run this in")
    name = f"penstock-{os.getpid()}-{next(_ids)}"
    exit_file = Path(tempfile.gettempdir()) / f"{name}-exit"
    running = Terminal(name, exit_file)
    variables = [f"{name}={value}" for name, value in environment.items()]
    # Whoever runs the tests may have exported the size of another terminal.
    program = ["env", "-u", "COLUMNS", "-u", "LINES", *variables, *command]
    # tmux 3.3 now and then forgets to ask how a program ended. The shell outlives Ctrl-C, to tell.
    telling = ["sh", "-c", 'trap : INT; "$@"; echo $? > "$0"', str(exit_file), *program]
    size = ["-x", str(width), "-y", str(height)]
    # Options come before the program, which may end at once.
    options = ["remain-on-exit on", "history-limit 20000", "default-terminal screen-256color"]
    settings = [word for option in options for word in ("set-option", "-g", *option.split(), ";")]
    running.tmux("start-server", ";", *settings, "new-session", "-d", *size, "-c", str(folder), *telling)
    try:
        yield running
    finally:
        running.tmux("kill-server")
        exit_file.unlink(missing_ok=True)
