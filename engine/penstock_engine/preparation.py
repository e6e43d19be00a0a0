"""`Preparation`: a request whose parameters are being made ready, off the step loop. It is not queued before."""

from collections.abc import Sequence
from concurrent.futures import Future, wait

from penstock_decoding.errors import Busy, ParameterError
from penstock_engine.errors import QueueFull, RequestFailed, RequestRefused
from penstock_engine.request import GenerationRequest

# When to come back if too much is being made ready.
RETRY_SECONDS = 1


class Preparation:
    """What is under way for one request, by name of the processor that does it."""

    def __init__(self, request: GenerationRequest, parts: Sequence[tuple[str, Future[None]]]) -> None:
        self.request = request
        self._parts = parts

    @property
    def is_done(self) -> bool:
        """Whether `finish` would return, or raise, at once."""
        return all(future.done() for _, future in self._parts)

    def finish(self) -> None:
        """Wait until all is ready.

        Raises:
            RequestRefused: a parameter turned out to be of no use.
            QueueFull: too much is being made ready already; try again later.
            RequestFailed: a processor broke down over a parameter.
        """
        wait([future for _, future in self._parts])
        for name, future in self._parts:
            error = future.exception()
            if isinstance(error, ParameterError):
                raise RequestRefused(f"{name}.{error.param}", error.message)
            if isinstance(error, Busy):
                raise QueueFull(len(self._parts), RETRY_SECONDS)
            if error is not None:
                raise RequestFailed(f"the processor {name!r} failed: {type(error).__name__}")
