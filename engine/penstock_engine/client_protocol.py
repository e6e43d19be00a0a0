"""`EngineClient`: what the HTTP server needs of an engine, whatever process it runs in."""

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from penstock_engine.config import EngineInfo, EngineStats
from penstock_engine.outputs import StepOutput
from penstock_engine.request import GenerationRequest

Delivered = StepOutput | Exception | None
"""An output of a stream, or its end: why it failed (an `EngineError`), or None: it was aborted."""


class RequestStream(Protocol):
    """One accepted request's outputs, in order. They are iterated over, or delivered: one of the two, once."""

    def deliver_to(self, take: Callable[[Delivered], None]) -> None:
        """Call `take` with each output, as soon as it is there, with nobody to be woken up in between.

        At once with those that are there already. Nothing follows an output with `is_last`, an error, or None. `take`
        is called on the event loop, for all streams in turn: it is quick and raises nothing.
        """
        ...

    def __aiter__(self) -> AsyncIterator[StepOutput]:
        """Ends after the output with `is_last`.

        Raises:
            RequestFailed: this request alone failed.
            EngineUnavailable: the engine ended before the request did.
        """
        ...

    def abort(self, choice: int | None = None) -> None:
        """Stop one answer, or all. Takes effect within one engine step; harmless when already over.

        No output follows for an aborted answer. When the last open answer is aborted, the stream ends by itself.
        """
        ...


class EngineClient(Protocol):
    """A running engine."""

    @property
    def info(self) -> EngineInfo: ...

    @property
    def stats(self) -> EngineStats:
        """The latest report; at most one step or one second old."""
        ...

    @property
    def failure(self) -> str | None:
        """None while the engine is well; else why it is not."""
        ...

    async def submit(self, request: GenerationRequest) -> RequestStream:
        """Queue a request; returns once the engine has taken it.

        Raises:
            RequestRefused, QueueFull, RequestFailed, EngineUnavailable
        """
        ...

    async def close(self, drain_timeout: float = 0.0) -> None:
        """Refuse new requests, let open ones finish for up to `drain_timeout` seconds, then end the engine."""
        ...
