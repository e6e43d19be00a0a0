"""`Flow`: one growing text on live lines, whose beginning is final before its end is."""

from penstock_chat.view.live_lines import Line, LiveLines


class Flow:
    """Shows the lines of a text again and again as it grows.

    What does not fit on the screen is printed for good, as it looks then: a reader can scroll back to it at once.
    """

    def __init__(self, live: LiveLines) -> None:
        self._live = live
        self._num_printed = 0

    def show(self, final: list[Line], growing: list[Line], *, may_reflow: bool = False) -> None:
        """`final` lines will never change; after them come `growing` ones.

        The next call gives what follows `final`. With `may_reflow`, growing lines may all change (a table's do), so
        that none is printed before it is final; only the last ones are seen then, as many as the screen has room for.
        """
        lines = [*final, *growing]
        num_final = len(final)
        if not may_reflow:
            num_final = max(num_final, len(lines) - self._live.max_tail)
        tail = lines[max(num_final, self._num_printed) :]
        self._live.show(lines[self._num_printed : num_final], tail[-self._live.max_tail :])
        self._num_printed = max(self._num_printed, num_final) - len(final)
