"""`Answer`: what one request gave, as times and counts. Text is not kept.

All times are seconds of `time.perf_counter`, which on Linux is CLOCK_MONOTONIC: one clock for all processes of a
machine, so times of several client processes can be laid on one axis.

    arrived      sent         chunk_times[0]     chunk_times[-1]   finished
       |----------|-----------------|-- ... -----------|--------------|
        waits for    time to first    inter-token         usage, end
        a slot       token            latencies           of the stream
       (or is late)
                  |---- latency -----------------------|
"""

from array import array
from dataclasses import dataclass
from enum import StrEnum


class FailureKind(StrEnum):
    """How a request can fail."""

    REFUSED = "refused"  # a status other than 200
    CONNECTION = "connection"  # no connection, or it was lost before a status came
    BROKEN_STREAM = "broken stream"  # the stream ended early, or is no stream of events
    ERROR_EVENT = "error event"  # the stream carried an error
    NO_TOKENS = "no tokens"  # a whole stream without any chunk of an answer
    TIMEOUT = "timeout"  # not finished within --timeout
    INTERRUPTED = "interrupted"  # we stopped first; not the server's failure


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no figures. `status` where there was one."""

    kind: FailureKind
    message: str
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One request. `num_prompt_tokens` and `num_output_tokens` are the server's usage, None when it sent none."""

    index: int
    arrived: float
    sent: float
    finished: float
    chunk_times: "array[float]"
    num_prompt_tokens: int | None = None
    num_output_tokens: int | None = None
    failure: Failure | None = None

    @property
    def has_usage(self) -> bool:
        return self.num_output_tokens is not None

    @property
    def output_len(self) -> int:
        """Tokens of the answer: the server's count, or without one the number of chunks."""
        return len(self.chunk_times) if self.num_output_tokens is None else self.num_output_tokens

    @property
    def time_to_first_token(self) -> float:
        return self.chunk_times[0] - self.sent

    @property
    def latency(self) -> float:
        """From sending to the last chunk of the answer; usage and the stream's end come after it."""
        return self.chunk_times[-1] - self.sent

    @property
    def inter_token_latencies(self) -> list[float]:
        times = self.chunk_times
        return [times[i + 1] - times[i] for i in range(len(times) - 1)]

    @property
    def time_per_output_token(self) -> float | None:
        """Mean time of a token after the first; None for answers of one token."""
        if self.output_len <= 1:
            return None
        return (self.latency - self.time_to_first_token) / (self.output_len - 1)

    @property
    def queue_time(self) -> float:
        return self.sent - self.arrived
