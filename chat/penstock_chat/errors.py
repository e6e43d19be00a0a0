"""What can go wrong, as one tree. Every message is a sentence for the person at the keyboard."""


class ChatError(Exception):
    """Root. `message` may hold text from a server; who prints it makes it safe."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InputError(ChatError):
    """A flag, a command, a setting or a file that the user gave is not usable."""


class ServerError(ChatError):
    """A request was not answered, or not to its end."""


class Unreachable(ServerError):
    """No connection, or none in time."""


class Refused(ServerError):
    """The server answered with an error. `param` is the field that it names, if it names one."""

    def __init__(self, message: str, status: int, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param


class Broken(ServerError):
    """The answer stopped before its end, or is not what this API answers with."""
