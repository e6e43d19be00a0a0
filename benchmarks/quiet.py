"""Whether the machine did something else while a benchmark ran: a busy machine makes bad figures."""

import time

import psutil

# More work than this by other processes, in processors, and the figures say more about them than about us.
QUIET = 0.1


class ForeignLoad:
    """How many processors' worth of work was done by processes other than ours, since the last call."""

    def __init__(self) -> None:
        self._last = self._read()

    def since_last(self) -> float:
        before, self._last = self._last, self._read()
        elapsed, busy, own = (now - then for now, then in zip(self._last, before, strict=True))
        return max(busy - own, 0.0) / elapsed

    def _read(self) -> tuple[float, float, float]:
        """Seconds of the clock, of all processors' work, and of this process and all it started."""
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        this = psutil.Process()
        own = sum(sum(process.cpu_times()[:2]) for process in [this, *this.children(recursive=True)])
        return time.perf_counter(), sum(times[:8]) - idle, own


def warn_unless_quiet(foreign_load: float) -> bool:
    """Say so if others kept the machine busy; returns whether it was quiet."""
    if foreign_load > QUIET:
        print(f"\nThe machine was not quiet: others kept {foreign_load:.2f} processors busy. Do not use these figures.")
    return foreign_load <= QUIET
