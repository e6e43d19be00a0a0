"""The engine's errors, a tree: catch `EngineError` for all of them."""


class EngineError(Exception):
    """Root of the engine's errors."""


class RequestError(EngineError):
    """One request failed; the engine and all other requests go on."""


class RequestRefused(RequestError):
    """The request can never be served as asked (too long for the model or for the cache). `param` names the field."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param
        self.message = message


class QueueFull(RequestError):
    """The bounded queue is full. `retry_after` is in whole seconds."""

    def __init__(self, num_waiting: int, retry_after: int) -> None:
        waiting = "1 request is" if num_waiting == 1 else f"{num_waiting} requests are"
        super().__init__(f"the queue is full: {waiting} waiting")
        self.num_waiting = num_waiting
        self.retry_after = retry_after


class RequestFailed(RequestError):
    """A fault inside this request's own decoding (a non-finite logit, a processor that raised)."""


class EngineUnavailable(EngineError):
    """The engine process is gone, failing or draining; new requests cannot be taken."""


class EngineStartError(EngineError):
    """The engine could not start; the message is the cause, fit to be shown to the person who started it."""
