"""`Finish`: why an answer ended."""

import enum


class Finish(enum.IntEnum):
    """Why an answer ended. OPEN: it has not."""

    OPEN = 0
    STOP = 1
    LENGTH = 2
    ABORT = 3

    @property
    def reason(self) -> str | None:
        """OpenAI's `finish_reason`."""
        return None if self is Finish.OPEN else self.name.lower()
