"""`Outcome`: what became of one command or block of a page."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """`problem` is None when all was as shown. `seen` is the output of something that ran to the expected status, with
    the place, from `line` on, of the `shown` lines that it belongs in; None where there is no output to show."""

    place: str
    problem: str | None
    line: int = 0
    shown: tuple[str, ...] = ()
    seen: tuple[str, ...] | None = None
