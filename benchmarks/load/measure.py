"""`measure`: run one load with a crew of client processes, with its warm-up before it."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from load.answer import Answer
from load.arrivals import draw_arrivals
from load.crew import Crew
from load.figures import Figures
from load.loads import ClosedLoop, Load, OpenLoop, Traced
from load.prepare import Prepared
from load.settings import Settings
from load.share import Arrival, Share
from load.watch import ClientFacts

FEWEST_REQUESTS = 64
REQUESTS_PER_SLOT = 4

Watch = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One load: its answers in the order of their numbers, and how the client processes fared."""

    load: Load
    start: float
    answers: tuple[Answer, ...]
    figures: Figures
    clients: tuple[ClientFacts, ...]
    is_interrupted: bool

    @property
    def client_limits(self) -> tuple[str, ...]:
        """What the client was short of, in words; empty when it kept up."""
        gaps = self.figures.itl or self.figures.e2el
        longest_gap = 0.0 if gaps is None else gaps.p99 / 1e3
        return tuple(dict.fromkeys(limit for client in self.clients for limit in client.limits(longest_gap)))


def measure(
    crew: Crew, prepared: Prepared, settings: Settings, load: Load, series: Iterator[int], watch: Watch
) -> Iterator[Measurement]:
    """Measure a load; and again with twice the processes while they are the limit and more may be taken.

    Every attempt is given, the one that counts last. `series` numbers what is sent, so that nothing is sent twice.
    """
    num_processes = settings.num_processes or 1
    most = settings.num_processes or most_processes(prepared.target.base)
    while True:
        measurement = _run(crew, prepared, settings, load, series, min(num_processes, load.slots or most), watch)
        yield measurement
        if (
            measurement.is_interrupted
            or not measurement.client_limits
            or num_processes >= min(most, load.slots or most)
        ):
            return
        num_processes = min(2 * num_processes, most)


def most_processes(base: str) -> int:
    """How many processes are taken unasked: every core, or half of them when the server runs on this machine too."""
    cores = len(os.sched_getaffinity(0))
    host = urlsplit(base).hostname or ""
    try:
        is_here = ip_address(host).is_loopback
    except ValueError:
        is_here = host == "localhost"
    return max(1, cores // 2) if is_here else cores


def num_requests_of(load: Load, settings: Settings) -> int | None:
    """How many requests a load has; None where only its duration ends it."""
    if settings.num_requests is not None and not isinstance(load, Traced):
        return settings.num_requests
    if isinstance(load, OpenLoop):
        assert settings.duration is not None, "an open loop has a number of requests or a duration"
        return max(1, round(load.rate * settings.duration))
    if isinstance(load, Traced):
        requests = settings.prompts.trace[: settings.num_requests]
        end = math.inf if settings.duration is None else settings.duration * load.speed
        return max(1, sum(request.timestamp <= end for request in requests))
    return None if settings.duration is not None else max(FEWEST_REQUESTS, REQUESTS_PER_SLOT * load.concurrency)


def _run(
    crew: Crew,
    prepared: Prepared,
    settings: Settings,
    load: Load,
    series: Iterator[int],
    num_processes: int,
    watch: Watch,
) -> Measurement:
    if settings.warmup:
        slots = min(load.slots or settings.warmup, settings.warmup)
        warmup = _shares(
            prepared, settings, ClosedLoop(slots), next(series), min(num_processes, slots), settings.warmup, None
        )
        if crew.run(warmup, lambda num_done, num_failed: None).is_interrupted:
            raise KeyboardInterrupt
    number = next(series)
    num_requests = num_requests_of(load, settings)
    run = crew.run(_shares(prepared, settings, load, number, num_processes, num_requests, settings.duration), watch)
    answers = sorted((a for share in run.shares for a in share.answers), key=lambda answer: answer.index)
    figures = Figures.of(
        answers,
        run.start,
        settings.limits,
        _prompt_lens(prepared, number, answers),
        is_queued=not isinstance(load, ClosedLoop) and load.slots is not None,
    )
    clients = tuple(share.client for share in run.shares)
    return Measurement(load, run.start, tuple(answers), figures, clients, run.is_interrupted)


def _shares(
    prepared: Prepared,
    settings: Settings,
    load: Load,
    series: int,
    num_processes: int,
    num_requests: int | None,
    duration: float | None,
) -> list[Share]:
    arrivals = _arrivals(prepared, settings, load, series, num_requests)
    return [
        Share(
            prepared.target,
            prepared.template,
            prepared.source,
            series,
            settings.timeout,
            slots=None if load.slots is None else _dealt(load.slots, num_processes, i),
            arrivals=None if arrivals is None else tuple(arrivals[i::num_processes]),
            num_requests=num_requests,
            duration=duration,
        )
        for i in range(num_processes)
    ]


def _arrivals(
    prepared: Prepared, settings: Settings, load: Load, series: int, num_requests: int | None
) -> Sequence[Arrival] | None:
    if isinstance(load, ClosedLoop):
        return None
    assert num_requests is not None, "arrivals have a number"
    if isinstance(load, OpenLoop):
        times = draw_arrivals(num_requests, load.rate, load.burstiness, settings.prompts.seed, series)
    else:
        times = [request.timestamp / load.speed for request in settings.prompts.trace[:num_requests]]
    return [Arrival(i, after) for i, after in enumerate(times)]


def _dealt(total: int, num_hands: int, which: int) -> int:
    return total // num_hands + (which < total % num_hands)


def _prompt_lens(prepared: Prepared, series: int, answers: Sequence[Answer]) -> Mapping[int, int]:
    """What we know of prompts whose answers came without usage."""
    numbers = [answer.index for answer in answers if answer.num_prompt_tokens is None and answer.failure is None]
    prompts = ((number, prepared.source.prompt(series, number)) for number in numbers)
    return {number: prompt.num_tokens for number, prompt in prompts if prompt.num_tokens is not None}
