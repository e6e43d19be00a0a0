"""The errors a caller of the decoding package can meet."""


class DecodingError(Exception):
    """Root of this package's errors."""


class ParameterError(DecodingError):
    """A parameter is unknown, of the wrong type, out of range, or contradicts another one.

    `param` is its path as the caller wrote it ("decoding.chain[1].top_k"); `message` says what would be right.
    """

    def __init__(self, param: str, message: str) -> None:
        super().__init__(f"{param}: {message}")
        self.param = param
        self.message = message


class PluginError(DecodingError):
    """A plug-in could not be loaded; the message names it, in one line, for whoever starts the server."""


class DecodingFault(DecodingError):
    """A processor or a strategy broke down over one request. The message names it and is fit for the caller."""


class Busy(DecodingError):
    """Parameters cannot be made ready now: too much of that is under way. Later they can."""


class NoAnswer(DecodingError):
    """A search ended without any answer: what it had to hold to left no token."""
