"""`Shell`: one bash in which a page's commands run one after another, so that `cd` and `export` last.

The shell's own standard output carries nothing but marks ("this command ended, with this status"): each command's
output goes to a file of its own, so that what a background process writes holds nothing up.
"""

import contextlib
import os
import re
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

# How long to wait for killed processes to be gone.
GONE_SECONDS = 10


class ShellError(Exception):
    """A command took too long or ended the shell; the message says which and what it had written."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that ran: its exit status and all it wrote, standard output and error together."""

    status: int
    output: str


@dataclass(frozen=True, slots=True)
class Job:
    """A command that runs in the background."""

    pid: int
    script: Path
    output_file: Path

    @property
    def output(self) -> str:
        """What it has written so far."""
        return _read(self.script, self.output_file)


class Shell:
    """A bash of its own session; everything it started ends with the `with` block."""

    def __init__(self, folder: Path, scratch: Path, environment: Mapping[str, str]) -> None:
        """`scratch` is where scripts and outputs are kept, outside of the `folder` that the commands see."""
        self._scratch = scratch
        self._num_scripts = 0
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Found before the shell ends: a process in a session of its own would be nobody's child after that.
        started: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            started = psutil.Process(self._process.pid).children(recursive=True)
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        # Killed is not gone yet: on a busy machine that takes a moment, and whoever inherited them has to take note.
        psutil.wait_procs(started, timeout=GONE_SECONDS)

    def run(self, command: str, seconds: float) -> Ended:
        """Run one command to its end.

        Raises:
            ShellError: it took longer than `seconds`, or it ended the shell.
        """
        script, output_file = self._write(command)
        self._send(f"{{ source {_quoted(script)}; }} >{_quoted(output_file)} 2>&1 </dev/null; echo $?")
        try:
            status = int(self._receive(seconds))
        except ShellError as error:
            raise ShellError(f"{error}; it had written:\n{_read(script, output_file)}") from None
        return Ended(status, _read(script, output_file))

    def start(self, command: str) -> Job:
        """Start a command in the background."""
        script, output_file = self._write(command)
        self._send(f"{{ source {_quoted(script)}; }} >{_quoted(output_file)} 2>&1 </dev/null & echo $!")
        return Job(int(self._receive(10)), script, output_file)

    def wait(self, job: Job, seconds: float) -> int:
        """The exit status of a background command, once it has ended.

        Raises:
            ShellError: it took longer than `seconds`.
        """
        self._send(f"wait {job.pid}; echo $?")
        return int(self._receive(seconds))

    def end_all_but(self, jobs: Collection[Job]) -> None:
        """End what else still runs in the background, as closing the reader's terminal would."""
        kept = {job.pid for job in jobs}
        for child in psutil.Process(self._process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in [] if child.pid in kept else [*child.children(recursive=True), child]:
                    process.terminate()

    def _write(self, command: str) -> tuple[Path, Path]:
        self._num_scripts += 1
        script = self._scratch / f"{self._num_scripts}.sh"
        script.write_text(command + "\n", encoding="utf-8")
        output_file = script.with_suffix(".out")
        output_file.touch()
        return script, output_file

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None, "opened as a pipe"
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ShellError("an earlier command ended the page's shell") from None

    def _receive(self, seconds: float) -> str:
        assert self._process.stdout is not None, "opened as a pipe"
        deadline = time.monotonic() + seconds
        mark = b""
        while not mark.endswith(b"\n"):
            ready, _, _ = select.select([self._process.stdout], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                raise ShellError(f"took longer than {seconds:g} s")
            piece = os.read(self._process.stdout.fileno(), 100)
            if not piece:
                raise ShellError("the command ended the page's shell")
            mark += piece
        return mark.decode()


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _read(script: Path, output_file: Path) -> str:
    output = output_file.read_text(encoding="utf-8", errors="replace")
    # bash names the script in its own messages; at a prompt it would name itself.
    return re.sub(rf"^{re.escape(str(script))}: line \d+: ", "bash: ", output, flags=re.MULTILINE)
