"""`serving`: a `penstock serve` of its own for one benchmark, as a user would start it."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from load.errors import BenchmarkError

_PATIENCE = 60.0
_LAST_LINES = 15


@contextlib.contextmanager
def serving(model: str, flags: Sequence[str] = ()) -> Iterator[str]:
    """The root of a server of `model` on a free port of loopback, ended with SIGTERM.

    `model`: what `penstock serve` takes, or the name of a shape of `shapes.py`, whose checkpoint is written first.

    Raises:
        BenchmarkError: it did not start; with the last that it said.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory()) if _is_shape(model) else None
        if folder is not None:
            model = _written(model, Path(folder))
        command = [str(Path(sys.executable).with_name("penstock")), "serve", model, "--port", "0", *flags]
        yield stack.enter_context(started(command))


@contextlib.contextmanager
def started(command: Sequence[str]) -> Iterator[str]:
    """The root of a server that a command starts, once it says on stderr where it listens.

    Raises:
        BenchmarkError: it did not start.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    try:
        # A session of its own: Ctrl-C is for the benchmark, which still wants its last answers.
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    except FileNotFoundError:
        raise BenchmarkError(f"{command[0]} is not there; give --url") from None
    assert process.stderr is not None
    with process, process.stderr:
        log: deque[str] = deque(maxlen=_LAST_LINES)
        # A pipe that nobody reads fills up and stops the server.
        reader = threading.Thread(target=log.extend, args=(process.stderr,), daemon=True)
        deadline = threading.Timer(_PATIENCE, process.kill)
        deadline.start()
        try:
            for line in process.stderr:
                log.append(line)
                if listening := re.search(r"Listening on (http://\S+)", line):
                    deadline.cancel()
                    reader.start()
                    yield listening[1]
                    return
            said = "".join(log).rstrip() or "nothing"
            raise BenchmarkError(f"{' '.join(command[:3])} did not say where it listens; it said:\n{said}")
        finally:
            deadline.cancel()
            _end(process)
            if reader.ident is not None:
                reader.join()


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()


def _is_shape(model: str) -> bool:
    return re.fullmatch(r"llama-\d+m", model) is not None and not Path(model).exists()


def _written(name: str, folder: Path) -> str:
    from shapes import SHAPES, write_checkpoint  # loads torch, which only this needs

    if name not in SHAPES:
        raise BenchmarkError(f"--serve: there is no shape {name!r}, but {', '.join(SHAPES)}")
    write_checkpoint(SHAPES[name], folder / name)
    return str(folder / name)
