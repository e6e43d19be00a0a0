"""`Launches`: the steps that the runner computes while the engine still works on the one before.

A step can be launched if each of its rows goes on by itself, whatever token the step before gave it, and if the runner
can choose that row's next token: no search, no processor that works on the host, no prompt that is still to be read.
What the rows ask for then changes only by their positions, so it is asked once and kept for as long as a group's rows
stay the same.
"""

from collections.abc import Callable
from dataclasses import dataclass

from penstock_decoding.sample_row import RowDraws, SampleRow
from penstock_engine.batch import Batch
from penstock_engine.group import Group
from penstock_engine.runner import LaunchedStep, LaunchingRunner
from penstock_engine.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Flight:
    """A launched step and what it computes."""

    batch: Batch
    step: LaunchedStep


class Launches:
    """Launches steps and lands them, one after another."""

    def __init__(self, runner: LaunchingRunner, scheduler: Scheduler, ask: Callable[[Group], list[SampleRow]]) -> None:
        """`ask`: what a group's live rows are asked for next, if its strategy goes on by itself."""
        self._runner = runner
        self._scheduler = scheduler
        self._ask = ask
        self._asked: dict[Group, list[SampleRow]] = {}

    def launch(self) -> Flight | None:
        """Launch the next step; None if it cannot be before all that is under way has landed."""
        if not all(map(self._goes_on, self._scheduler.running)):
            return None
        batch = self._scheduler.schedule_next()
        if batch is None:
            return None
        # Of a group all rows take part or none.
        groups = dict.fromkeys(entry.group for entry in batch.entries)
        step = self._runner.launch(batch, [row for group in groups for row in self._asked[group]])
        if step is None:
            return None
        self._scheduler.launch(batch)
        return Flight(batch, step)

    def land(self, flight: Flight) -> dict[Group, list[RowDraws]]:
        """Wait for a launched step. What it gave, by group, for the rows that have not ended since."""
        drawn = flight.step.draws()
        self._scheduler.land(flight.batch)
        given: dict[Group, list[RowDraws]] = {}
        for entry, row in zip(flight.batch.entries, drawn, strict=True):
            if entry.sequence.is_live:
                given.setdefault(entry.group, []).append(row)
        return given

    def release(self, group: Group, slot: int) -> None:
        """One of the group's sequences is over, and its rows have changed."""
        self._asked.pop(group, None)
        self._runner.release(slot)

    def _goes_on(self, group: Group) -> bool:
        if group.is_reading:  # before its strategy is asked for anything: there may be no token to choose at all
            return False
        if group not in self._asked:
            if group.strategy.going_on is None or group.watch is not None:
                return False
            self._asked[group] = self._ask(group)
        return all(map(self._runner.takes, self._asked[group]))
