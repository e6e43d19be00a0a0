"""The definitions of `vllm bench serve`, against values computed by hand."""

from array import array
from collections.abc import Sequence

import numpy as np
import pytest
from load.answer import Answer, Failure, FailureKind
from load.distribution import Distribution
from load.figures import Figures, is_good

START = 100.0


def answered(
    sent: float, chunks: Sequence[float], num_tokens: int | None = None, index: int = 0, arrived: float | None = None
) -> Answer:
    """An answer whose chunks arrived at these times, all counted from the load's start; it ends 10 ms after them."""
    return Answer(
        index,
        START + (sent if arrived is None else arrived),
        START + sent,
        START + chunks[-1] + 0.01,
        array("d", [START + time for time in chunks]),
        7,
        len(chunks) if num_tokens is None else num_tokens,
    )


def failed(kind: FailureKind, status: int | None = None, at: float = 1.0) -> Answer:
    return Answer(0, START, START, START + at, array("d"), failure=Failure(kind, "why", status))


def test_one_answer_is_measured_from_sending_to_its_last_chunk() -> None:
    figures = Figures.of([answered(0.5, [0.75, 1.0, 1.5])], START)
    assert figures.ttft is not None and figures.ttft.mean == pytest.approx(250)
    assert figures.e2el is not None and figures.e2el.mean == pytest.approx(1000)
    # (1000 - 250) / (3 - 1)
    assert figures.tpot is not None and figures.tpot.mean == pytest.approx(375)
    assert figures.itl is not None
    assert figures.itl.mean == pytest.approx(375)
    assert figures.itl.std == pytest.approx(125)
    # The load's duration reaches from its start to the end of the stream, which is after the last chunk.
    assert figures.duration == pytest.approx(1.51)
    assert figures.request_rate == pytest.approx(1 / 1.51)
    assert figures.output_rate == pytest.approx(3 / 1.51)
    assert figures.token_rate == pytest.approx(10 / 1.51)


def test_usage_counts_tokens_and_not_chunks() -> None:
    # Two chunks of five tokens: the time per token is over four, the inter-token latency is the one gap.
    figures = Figures.of([answered(0.0, [0.2, 1.0], num_tokens=5)], START)
    assert figures.num_output_tokens == 5
    assert figures.tpot is not None and figures.tpot.mean == pytest.approx(800 / 4)
    assert figures.itl is not None and figures.itl.mean == pytest.approx(800)


def test_an_answer_of_one_token_has_no_time_per_token() -> None:
    figures = Figures.of([answered(0.0, [0.2]), answered(0.0, [0.2, 0.4])], START)
    assert figures.tpot is not None and figures.tpot.mean == pytest.approx(200)
    assert Figures.of([answered(0.0, [0.2])], START).tpot is None
    assert Figures.of([answered(0.0, [0.2])], START).itl is None


def test_inter_token_latencies_of_all_answers_count_alike() -> None:
    figures = Figures.of([answered(0.0, [0.1, 0.2, 0.3, 0.4]), answered(0.0, [0.1, 1.1])], START)
    assert figures.itl is not None
    assert figures.itl.mean == pytest.approx((3 * 100 + 1000) / 4)
    assert figures.tpot is not None and figures.tpot.mean == pytest.approx((100 + 1000) / 2)


def test_percentiles_are_interpolated_linearly() -> None:
    distribution = Distribution.of([0.001 * n for n in range(1, 11)])
    assert distribution is not None
    # Of 1..10 the p-th percentile lies at 1 + 9 p.
    assert distribution.median == pytest.approx(5.5)
    assert distribution.p90 == pytest.approx(9.1)
    assert distribution.p99 == pytest.approx(9.91)
    assert distribution.std == pytest.approx(np.sqrt(8.25))
    assert Distribution.of([]) is None


def test_peaks_are_of_whole_seconds_after_the_first_request() -> None:
    answers = [
        answered(0.5, [0.6, 0.7, 1.4]),  # seconds 0, 0, 0 after 0.5
        answered(1.0, [1.6, 1.7]),  # seconds 1, 1
        answered(1.4, [2.4, 2.6]),  # seconds 1, 2
    ]
    figures = Figures.of(answers, START)
    assert figures.peak_output_rate == 3
    # The first touches second 0, the second 0 and 1, the third 0, 1 and 2.
    assert figures.peak_concurrency == 3


def test_failures_are_counted_by_kind_and_in_nothing_else() -> None:
    answers = [
        answered(0.0, [0.1, 0.2]),
        failed(FailureKind.REFUSED, 429),
        failed(FailureKind.REFUSED, 429),
        failed(FailureKind.REFUSED, 500),
        failed(FailureKind.BROKEN_STREAM, 200, at=5.0),
        failed(FailureKind.INTERRUPTED),
    ]
    figures = Figures.of(answers, START)
    assert (figures.num_completed, figures.num_failed, figures.num_interrupted) == (1, 4, 1)
    counted = [(failure.kind, failure.status, failure.count) for failure in figures.failures]
    assert counted == [
        (FailureKind.REFUSED, 429, 2),
        (FailureKind.REFUSED, 500, 1),
        (FailureKind.BROKEN_STREAM, 200, 1),
    ]
    assert figures.num_output_tokens == 2
    # A failure takes time too: as in vLLM the load ends with its last request, whatever came of it.
    assert figures.duration == pytest.approx(5.0)


def test_nothing_measured_is_no_error() -> None:
    for answers in ([], [failed(FailureKind.CONNECTION)]):
        figures = Figures.of(answers, START)
        assert figures.ttft is None and figures.peak_concurrency == 0 and figures.output_rate == 0.0


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"ttft": 100}, True),
        ({"ttft": 99}, False),
        ({"tpot": 200}, True),
        ({"tpot": 199}, False),
        ({"e2el": 500}, True),
        ({"e2el": 499}, False),
        ({"ttft": 100, "tpot": 200, "e2el": 499}, False),
    ],
)
def test_goodput_asks_for_every_limit(limits: dict[str, float], expected: bool) -> None:
    answer = Answer(0, 0.0, 0.0, 0.5, array("d", [0.1, 0.3, 0.5]), 1, 3)
    assert is_good(answer, limits) is expected


def test_goodput_is_good_answers_per_second() -> None:
    answers = [answered(0.0, [0.1, 0.5]), answered(0.0, [0.4, 1.99])]
    figures = Figures.of(answers, START, {"ttft": 200})
    assert figures.duration == pytest.approx(2.0)
    assert figures.good_rate == pytest.approx(0.5)
    assert Figures.of(answers, START).good_rate is None
    # A single token keeps any limit on the time per further token.
    assert is_good(answered(0.0, [0.1]), {"tpot": 0.001})


def test_without_usage_chunks_and_known_prompts_are_counted() -> None:
    answer = Answer(3, START, START, START + 1, array("d", [START + 0.5, START + 0.6]))
    figures = Figures.of([answer], START, prompt_lens={3: 40})
    assert (figures.num_without_usage, figures.num_output_tokens, figures.num_prompt_tokens) == (1, 2, 40)


def test_waiting_for_a_slot_is_told_apart_from_the_latency() -> None:
    figures = Figures.of([answered(0.5, [1.0, 1.5], arrived=0.2)], START, is_queued=True)
    assert figures.queue is not None and figures.queue.mean == pytest.approx(300)
    assert figures.e2el is not None and figures.e2el.mean == pytest.approx(1000)
    assert figures.queued_latency is not None and figures.queued_latency.mean == pytest.approx(1300)
