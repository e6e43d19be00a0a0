"""`Figures`: what a load gave, in the definitions of `vllm bench serve`, so that the two can be laid side by side.

Only answers that came whole are counted, and failures by kind beside them. What that benchmark does not have is added
without touching what it has: failures by kind, and how many answers came without usage.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from load.answer import Answer, FailureKind
from load.distribution import Distribution

LIMIT_NAMES = ("ttft", "tpot", "e2el")


@dataclass(frozen=True, slots=True)
class Failures:
    """Requests that failed alike. `message` is the first one's."""

    kind: FailureKind
    status: int | None
    count: int
    message: str


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds, tokens and requests; the four latencies in milliseconds, None where no answer has one.

    `duration` is from the load's start to the end of its last stream. The peaks are of whole seconds after the first
    request was sent: chunks that arrived in one, and requests that were under way at some time in one.
    `queue` is what requests waited in the client for a slot, `queued_latency` the latency with it: None without a cap
    on arrivals. `num_interrupted` were under way when the benchmark was stopped; they are in no other figure.
    """

    duration: float
    num_completed: int
    num_failed: int
    num_interrupted: int
    num_without_usage: int
    num_prompt_tokens: int
    num_output_tokens: int
    request_rate: float
    good_rate: float | None
    output_rate: float
    token_rate: float
    peak_output_rate: float
    peak_concurrency: int
    ttft: Distribution | None
    tpot: Distribution | None
    itl: Distribution | None
    e2el: Distribution | None
    queue: Distribution | None
    queued_latency: Distribution | None
    failures: tuple[Failures, ...]

    @classmethod
    def of(
        cls,
        answers: Sequence[Answer],
        start: float,
        limits: Mapping[str, float] | None = None,
        prompt_lens: Mapping[int, int] | None = None,
        is_queued: bool = False,
    ) -> "Figures":
        """The figures of a load that began at `start`.

        `limits`: the most milliseconds of a good answer, by `LIMIT_NAMES`. `prompt_lens`: tokens of prompts by
        number, for answers without usage. `is_queued`: requests waited in the client for a slot.
        """
        good = [answer for answer in answers if answer.failure is None]
        interrupted = sum(_is_interrupted(answer) for answer in answers)
        ended = [answer.finished for answer in answers]
        duration = max(ended) - start if ended else 0.0
        num_output = sum(answer.output_len for answer in good)
        num_prompt = sum(_prompt_len(answer, prompt_lens or {}) for answer in good)
        peak_rate, peak_concurrency = _peaks(good)
        return cls(
            duration=duration,
            num_completed=len(good),
            num_failed=len(answers) - len(good) - interrupted,
            num_interrupted=interrupted,
            num_without_usage=sum(not answer.has_usage for answer in good),
            num_prompt_tokens=num_prompt,
            num_output_tokens=num_output,
            request_rate=_per_second(len(good), duration),
            good_rate=_per_second(sum(is_good(a, limits) for a in good), duration) if limits else None,
            output_rate=_per_second(num_output, duration),
            token_rate=_per_second(num_prompt + num_output, duration),
            peak_output_rate=peak_rate,
            peak_concurrency=peak_concurrency,
            ttft=Distribution.of([answer.time_to_first_token for answer in good]),
            tpot=Distribution.of([t for a in good if (t := a.time_per_output_token) is not None]),
            itl=Distribution.of([gap for answer in good for gap in answer.inter_token_latencies]),
            e2el=Distribution.of([answer.latency for answer in good]),
            queue=Distribution.of([answer.queue_time for answer in good]) if is_queued else None,
            queued_latency=Distribution.of([a.latency + a.queue_time for a in good]) if is_queued else None,
            failures=_failures(answers),
        )


def is_good(answer: Answer, limits: Mapping[str, float]) -> bool:
    """Whether a whole answer keeps every limit. An answer of one token keeps any limit per further token."""
    seconds = {
        "ttft": answer.time_to_first_token,
        "tpot": answer.time_per_output_token or 0.0,
        "e2el": answer.latency,
    }
    return all(1e3 * seconds[name] <= limit for name, limit in limits.items())


def _is_interrupted(answer: Answer) -> bool:
    return answer.failure is not None and answer.failure.kind is FailureKind.INTERRUPTED


def _prompt_len(answer: Answer, prompt_lens: Mapping[int, int]) -> int:
    return prompt_lens.get(answer.index, 0) if answer.num_prompt_tokens is None else answer.num_prompt_tokens


def _per_second(amount: float, duration: float) -> float:
    return amount / duration if duration > 0 else 0.0


def _peaks(answers: Sequence[Answer]) -> tuple[float, int]:
    """The most chunks in a second, and the most requests that touch a second."""
    if not answers:
        return 0.0, 0
    first = min(answer.sent for answer in answers)
    num_seconds = math.ceil(max(answer.chunk_times[-1] for answer in answers) - first) + 1
    chunks, requests = np.zeros(num_seconds, int), np.zeros(num_seconds, int)
    for answer in answers:
        seconds = (np.asarray(answer.chunk_times) - first).astype(int)
        np.add.at(chunks, seconds, 1)
        requests[int(answer.sent - first) : int(seconds[-1]) + 1] += 1
    return float(chunks.max()), int(requests.max())


def _failures(answers: Sequence[Answer]) -> tuple[Failures, ...]:
    counts: Counter[tuple[FailureKind, int | None]] = Counter()
    messages: dict[tuple[FailureKind, int | None], str] = {}
    for answer in answers:
        if answer.failure is not None and not _is_interrupted(answer):
            key = (answer.failure.kind, answer.failure.status)
            counts[key] += 1
            messages.setdefault(key, answer.failure.message)
    return tuple(Failures(kind, status, n, messages[kind, status]) for (kind, status), n in counts.most_common())
