"""What a server's /metrics tells of its event loop."""

import math
import re
import urllib.request
from dataclasses import dataclass

_BUCKET = re.compile(r'^penstock_event_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Lags:
    """How many probes of the event loop were late by at most each bound, in seconds."""

    counts: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, url: str) -> "Lags | None":
        """Until now; None if the server does not tell."""
        try:
            with urllib.request.urlopen(f"{url}/metrics", timeout=60) as page:
                return cls.read(page.read().decode())
        except OSError:
            return None

    @classmethod
    def read(cls, page: str) -> "Lags | None":
        counts = tuple((float(bound), float(count)) for bound, count in _BUCKET.findall(page))
        return cls(counts) if counts else None

    def since(self, earlier: "Lags") -> "Lags":
        """What came since then."""
        pairs = zip(self.counts, earlier.counts, strict=True)
        return Lags(tuple((bound, now - then) for (bound, now), (_, then) in pairs))

    def quantile(self, share: float) -> float | None:
        """The bound that so large a share of the probes kept; None without any probe, or if there is no such bound."""
        total = self.counts[-1][1]
        kept = (bound for bound, count in self.counts if total and count >= share * total)
        return next((bound for bound in kept if math.isfinite(bound)), None)
