"""What can keep a benchmark from running. A request that fails is no error here: it is a figure."""


class BenchmarkError(Exception):
    """The benchmark cannot run; the message says why and what to change."""


class FlagError(BenchmarkError):
    """A flag, or the file that it names, does not make sense. The message names the flag."""

    def __init__(self, flag: str, problem: str) -> None:
        super().__init__(f"{flag}: {problem}")


class NotReady(BenchmarkError):
    """The server cannot be reached, or refuses the kind of request that was asked for."""
