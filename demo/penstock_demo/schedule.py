"""How many steps a training takes, and the learning rate at each: a linear warm-up, then half a cosine."""

import math
from dataclasses import dataclass

FIRST_TIMED_STEP = 6  # the steps before it compile and warm up
LAST_TIMED_STEP = 40


@dataclass(frozen=True, slots=True)
class Schedule:
    """Rates rise to `peak_rate` over `warm_up_steps` and fall to `final_rate` at the horizon."""

    peak_rate: float = 2e-3
    final_rate: float = 5e-5
    warm_up_steps: int = 200

    def rate(self, step: int, horizon: int | None) -> float:
        """Return the rate of `step` (the first is 1); without a known horizon the peak is held."""
        if step <= self.warm_up_steps or horizon is None:
            return self.peak_rate * min(1.0, step / self.warm_up_steps)
        progress = (step - self.warm_up_steps) / max(1, horizon - self.warm_up_steps)
        return self.final_rate + 0.5 * (self.peak_rate - self.final_rate) * (1 + math.cos(math.pi * progress))


def steps_that_fit(seconds_left: float, seconds_of_timed_steps: float) -> int:
    """Return the number of steps for which time is left; 3% are kept for checks and saves."""
    seconds_per_step = seconds_of_timed_steps / (LAST_TIMED_STEP - FIRST_TIMED_STEP + 1)
    return max(1, int(0.97 * seconds_left / seconds_per_step))
