"""`TextBefore`: the text up to a mark. White space before the mark is not part of it."""

from penstock_server.text.pieces import num_begun


class TextBefore:
    """Lets through what certainly comes before the mark, and holds back what may be the mark or white space before it.

    What stands before the first character that is let through, as after an earlier mark, can be left out too.
    """

    def __init__(self, mark: str, *, skips_blank: bool = False) -> None:
        self._mark = mark
        self._held = ""
        self._skips_blank = skips_blank

    def push(self, text: str) -> tuple[str, str | None]:
        """What is let through, and what follows the mark; None if it has not come."""
        self._held += text
        before, mark, after = self._held.partition(self._mark)
        if mark:
            self._held = ""
            return self._begun(before.rstrip()), after
        sure = len(self._held) - num_begun(self._held, self._mark)
        sure = len(self._held[:sure].rstrip())
        through, self._held = self._held[:sure], self._held[sure:]
        return self._begun(through), None

    def finish(self) -> str:
        """What was held back, now that the mark does not come."""
        held, self._held = self._held, ""
        return self._begun(held)

    def _begun(self, text: str) -> str:
        if not self._skips_blank:
            return text
        text = text.lstrip()
        self._skips_blank = not text
        return text
