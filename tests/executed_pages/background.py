"""`Server`: a `penstock serve` that a page starts and that runs until the page ends."""

import re
import time

import psutil
from executed_pages.shell import Job, Shell, ShellError

READY = "Listening on "
START_SECONDS = 60.0
END_SECONDS = 40.0

_SERVES = re.compile(r"(?:\w+=\S+ )*(?:penstock serve|make serve)\b(?!.*\s--help\b)(?!.*[|&;]\s*$)", re.DOTALL)
_PORT = re.compile(r"(?:--port[ =]|\bPORT=)(\d+)")


class ServerDied(Exception):
    """A server ended before it served; the message holds all it wrote."""


def starts_server(command: str) -> bool:
    """Whether a command, if nothing is wrong, runs until it is told to end."""
    return _SERVES.match(command) is not None


def port_of(command: str, default: int) -> int:
    """The port that a serving command names."""
    named = _PORT.search(command)
    return int(named[1]) if named else default


class Server:
    """A background command; its server gets SIGTERM, as from Ctrl-C or from a service manager, and must end with 0."""

    def __init__(self, shell: Shell, command: str) -> None:
        self._shell = shell
        self.job = shell.start(command)

    def wait_until_ready(self) -> str:
        """What it wrote until it served.

        Raises:
            ServerDied: it ended or took too long.
        """
        deadline = time.monotonic() + START_SECONDS
        while not re.search(rf"{READY}.*\n", self.job.output):
            if not _is_alive(self.job):
                raise ServerDied(f"the server ended before it served; it wrote:\n{self.job.output}")
            if time.monotonic() > deadline:
                raise ServerDied(f"the server did not serve within {START_SECONDS:g} s; it wrote:\n{self.job.output}")
            time.sleep(0.02)
        return self.job.output

    def end(self) -> str | None:
        """End it; returns what was wrong with its end, if anything."""
        for process in _serving_processes(self.job.pid):
            process.terminate()
        try:
            status = self._shell.wait(self.job, END_SECONDS)
        except ShellError as error:
            return f"the server's end {error}; it wrote:\n{self.job.output}"
        return f"the server ended with status {status}; it wrote:\n{self.job.output}" if status else None


def _is_alive(job: Job) -> bool:
    try:
        return bool(psutil.Process(job.pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _serving_processes(pid: int) -> list[psutil.Process]:
    """The server itself: not the shell or the make that started it, nor the engine process that it will end itself."""
    try:
        tree = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [process for process in tree if _is_penstock(process)]


def _is_penstock(process: psutil.Process) -> bool:
    try:
        return [part.rpartition("/")[2] for part in process.cmdline()[1:3]] == ["penstock", "serve"]
    except psutil.NoSuchProcess:
        return False
