"""`SideProcess`: a side in a process of its own, and the choice of how its OpenMP threads wait."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sides.side import Terms

_BENCHMARKS = Path(__file__).parent.parent

# How OpenMP's threads wait for each other, by name: the variables that say so. "default" spins for a moment, then
# sleeps; "passive" sleeps; "short spin" is what `penstock serve` gives its engine process. Never "active": it would
# spin on while another side is measured.
WAIT_POLICIES: Mapping[str, Mapping[str, str]] = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "short spin": {"GOMP_SPINCOUNT": "20000"},
}
_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


class SideFailed(Exception):
    """A side could not do what it was asked; the message says which side, and why."""


@dataclass(frozen=True, slots=True)
class Timed:
    """The answers to some prompts, and the seconds from asking for them to having all."""

    seconds: float
    answers: list[list[int]]


class SideProcess:
    """One side, ready to be measured. What it writes to stderr goes where ours goes."""

    def __init__(self, name: str, wait_policy: str) -> None:
        self.name = name
        self.wait_policy = wait_policy
        environment = {key: value for key, value in os.environ.items() if key not in _VARIABLES}
        environment |= WAIT_POLICIES[wait_policy]
        environment["PYTHONPATH"] = os.pathsep.join([str(_BENCHMARKS), *_paths(os.environ.get("PYTHONPATH"))])
        environment["TRANSFORMERS_VERBOSITY"] = "error"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sides.worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def load(self, folder: Path, terms: Terms) -> dict[str, Any]:
        self.ask("load", folder=str(folder), terms=asdict(terms))
        return self.loaded()

    def answer(self, prompts: Sequence[Sequence[int]], lengths: Sequence[int]) -> Timed:
        """Answers of exactly these lengths.

        Raises:
            SideFailed: it failed, or gave answers of other lengths.
        """
        self.ask("answer", prompts=prompts, lengths=lengths)
        timed = Timed(**self._reply())
        given = [len(answer) for answer in timed.answers]
        if given != list(lengths):
            raise SideFailed(f"{self.name}: asked for answers of {list(lengths)} tokens, got {given}")
        return timed

    def unload(self) -> None:
        self.ask("unload")
        self._reply()

    def baseline(self) -> int:
        """Bytes resident now; the peak begins anew from here."""
        self.ask("baseline")
        return int(self._reply())

    def peak(self) -> int:
        """The most bytes resident since `baseline`."""
        self.ask("peak")
        return int(self._reply())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # what a process that has ended did not read
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.kill()  # it may still be importing, and holds nothing that must be put away
        self._process.wait()

    def ask(self, command: str, **arguments: object) -> None:
        """Send a command without waiting, so that several processes can start at once."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({command: arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def loaded(self) -> dict[str, Any]:
        """The description that follows an `ask` for "load"."""
        description: dict[str, Any] = self._reply()
        return description | {"wait_policy": self.wait_policy}

    def _reply(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        reply = json.loads(line)
        if "error" in reply:
            raise SideFailed(f"{self.name}: {reply['error']}")
        return reply["value"]

    def _ended(self) -> SideFailed:
        return SideFailed(f"{self.name}: its process ended with status {self._process.wait()}")


def _paths(variable: str | None) -> list[str]:
    return [variable] if variable else []
