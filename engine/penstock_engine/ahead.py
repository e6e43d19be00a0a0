"""`Ahead`: groups whose processors work in threads of their own on what the next choice of a token needs.

That work begins as soon as the tokens are known and runs while the model computes. A group for which it is not done by
then is late: it skips the step, rather than holding up the others, and its last tokens are computed once more. Once
late, it is left out of the batch until it is ready.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from penstock_decoding.processor import Row
from penstock_decoding.sampler import Sampler
from penstock_engine.group import Group

# A skipped step costs a row more than this; so long a step may wait when others wait for it too.
GRACE_SECONDS = 0.001
# When nobody else waits. Short, because what arrives meanwhile has to be heard.
PATIENCE_SECONDS = 0.01


class Ahead:
    """Keeps watch on the groups that have such processors; all others cost nothing."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._groups: set[Group] = set()
        self._late: set[Group] = set()

    def add(self, group: Group) -> None:
        """A new group."""
        if self._sampler.works_ahead(group.request.decoding.chain):
            self._groups.add(group)
            self.begin(group)

    def begin(self, group: Group) -> None:
        """The group's tokens are known: begin for its next ones."""
        if group not in self._groups:
            return
        decoding, stop_ids = group.request.decoding, group.request.stop.token_ids
        for row in group.rows:
            known = Row(0, row.slot, row.prompt, row.output, stop_ids, decoding.seed)
            self._sampler.ahead(known, decoding.chain)

    def forget(self, group: Group) -> None:
        """The group is over."""
        self._groups.discard(group)
        self._late.discard(group)

    def still_late(self) -> set[Group]:
        """Groups that were late and are not ready yet. They should choose no token in the next step."""
        self._late = {group for group in self._late if self._awaited([group])}
        return self._late

    def late(self, groups: Sequence[Group]) -> set[Group]:
        """Those among the groups about to choose tokens that are not ready, after a moment's grace."""
        waiting = [group for group in groups if group in self._groups and self._awaited([group])]
        if waiting:
            is_alone = len(waiting) == len(groups)
            self._wait(waiting, PATIENCE_SECONDS if is_alone else GRACE_SECONDS)
        late = {group for group in waiting if self._awaited([group])}
        self._late |= late
        return late

    def wait(self) -> None:
        """There is nothing to compute: wait for one of the late groups, but not for long."""
        awaited = self._awaited(self._late)
        if awaited:
            wait(awaited, PATIENCE_SECONDS, FIRST_COMPLETED)

    def _wait(self, groups: Iterable[Group], seconds: float) -> None:
        wait(self._awaited(groups), seconds)

    def _awaited(self, groups: Iterable[Group]) -> list[Future[Any]]:
        return [future for group in groups for row in group.rows for future in self._sampler.awaited(row.slot)]
