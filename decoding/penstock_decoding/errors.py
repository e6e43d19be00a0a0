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
