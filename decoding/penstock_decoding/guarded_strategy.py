"""`GuardedStrategy`: one request's strategy, whose faults become a `DecodingFault` that names it.

A strategy that raises ends its own request and no other. A plug-in's answers are checked as well (`contract.py`): what
it draws goes into a batch with other requests' rows, and what it returns moves the engine's blocks.
"""

import logging

from penstock_decoding.catalogue import Catalogue
from penstock_decoding.contract import BranchContract, check_draw, check_max_live
from penstock_decoding.draws import Draw
from penstock_decoding.errors import DecodingFault, NoAnswer
from penstock_decoding.params import Step
from penstock_decoding.strategy import Branches, Drawn, GoesOn, Live, StopRule, Strategy

_log = logging.getLogger(__name__)


class GuardedStrategy:
    """Behaves as the strategy that it guards. `max_live` is asked for once: the scheduler counts on it."""

    Params = object

    def __init__(self, step: Step, catalogue: Catalogue, vocab_size: int) -> None:
        """
        Raises:
            DecodingFault: the strategy could not be made.
        """
        self._called = catalogue.called("strategy", step.name)
        self._vocab_size = vocab_size
        try:
            self._strategy: Strategy = catalogue.strategies[step.name](step.params)
            self.max_live = self._strategy.max_live
        except Exception as error:
            raise self._fault(error) from error
        self._contract: BranchContract | None = None
        # A plug-in's draws and branches are looked at in every step. A class says it for itself: one that is derived
        # from a class that does may advance in its own way.
        is_believed = "going_on" in vars(type(self._strategy)) and not catalogue.is_plugin("strategy", step.name)
        self._going_on = self._strategy if is_believed and isinstance(self._strategy, GoesOn) else None
        if catalogue.is_plugin("strategy", step.name):
            check_max_live(self._called, self.max_live)
            self._contract = BranchContract(self._called, step.params.n, self.max_live, vocab_size)

    @property
    def going_on(self) -> tuple[int, ...] | None:
        """See `GoesOn`."""
        return None if self._going_on is None else self._going_on.going_on

    def draw(self, live: Live, stop: StopRule) -> Draw:
        """What to draw for each of the live rows.

        Raises:
            DecodingFault
        """
        try:
            draw = self._strategy.draw(live, stop)
        except Exception as error:
            raise self._fault(error) from error
        if self._contract is not None:
            check_draw(self._called, draw, live.num_rows, self._vocab_size)
        return draw

    def advance(self, live: Live, drawn: Drawn, stop: StopRule) -> Branches:
        """Choose among what was drawn.

        Raises:
            NoAnswer, DecodingFault
        """
        try:
            branches = self._strategy.advance(live, drawn, stop)
        except NoAnswer:
            raise
        except Exception as error:
            raise self._fault(error) from error
        if self._contract is not None:
            self._contract.check(branches, live, drawn, stop)
        return branches

    def drop(self, choice: int) -> list[int]:
        """The live rows that end because the caller no longer wants this answer.

        Raises:
            DecodingFault
        """
        try:
            rows = self._strategy.drop(choice)
        except Exception as error:
            raise self._fault(error) from error
        if self._contract is not None:
            self._contract.check_drop(choice, rows)
        return rows

    def _fault(self, error: Exception) -> DecodingFault:
        # The caller learns who failed; what the exception says is for whoever runs the server.
        _log.error("%s failed", self._called, exc_info=error)
        return DecodingFault(f"{self._called} failed: {type(error).__name__}")
