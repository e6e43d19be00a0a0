"""Loads on a server with a known schedule: what is sent when, what is timed, and what several processes make of it.

The server notes when it wrote each token, on the same clock, so that no time has to be guessed.
"""

import asyncio
import itertools
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from load.answer import Answer
from load.crew import Crew
from load.errors import BenchmarkError
from load.flags import read_flags
from load.loads import ClosedLoop, OpenLoop
from load.measure import Measurement, measure, most_processes, num_requests_of
from load.prepare import Prepared, prepare
from load.settings import Settings
from load.share import Bodies, Controls, Share, run_share
from load.steady_server import Served, SteadyServer
from load.watch import ClientFacts
from loopback_app import loopback

FLAGS = ("--input-len", "20", "--output-len", "5", "--warmup", "0", "--processes", "1")


@pytest.fixture(scope="module")
def steady() -> Iterator[tuple[str, SteadyServer]]:
    server = SteadyServer(first_token=0.02, per_token=0.005)
    with loopback(server.app()) as url:
        yield url, server


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    with Crew() as crew:
        yield crew


def run(
    crew: Crew, steady: tuple[str, SteadyServer], flags: Sequence[str]
) -> tuple[Measurement, Prepared, list[Served]]:
    """The last attempt of a load, how it was prepared, and what the server did for it."""
    url, server = steady
    settings, prepared = ready(url, flags)
    server.served.clear()
    *_, last = measure(crew, prepared, settings, settings.loads[0], itertools.count(), lambda done, bad: None)
    return last, prepared, list(server.served)


def ready(url: str, flags: Sequence[str]) -> tuple[Settings, Prepared]:
    settings = read_flags([*FLAGS, "--url", url, *flags])
    return settings, prepare(settings, url)


def concurrency(answers: Sequence[Answer]) -> int:
    """The most requests that were under way at one time."""
    events = sorted([(answer.sent, 1) for answer in answers] + [(answer.finished, -1) for answer in answers])
    return max(itertools.accumulate(change for _, change in events))


def check_against_server(measurement: Measurement, prepared: Prepared, served: Sequence[Served]) -> None:
    """Each prompt came as it was made, and each answer lies around what the server did for it."""
    done = {json.dumps(request.content): request for request in served}
    assert len(done) == len(served) == len(measurement.answers)
    for answer in measurement.answers:
        assert answer.failure is None
        content = prepared.template.fields_of(prepared.source.prompt(0, answer.index))
        request = done[json.dumps(content.get("prompt", content.get("messages")))]
        assert measurement.start <= answer.sent <= request.received
        assert len(answer.chunk_times) == len(request.token_times)
        assert all(seen >= written for seen, written in zip(answer.chunk_times, request.token_times, strict=True))
        # The schedule is the least that can be seen: the first token after 20 ms, four more 5 ms apart.
        assert answer.time_to_first_token >= 0.02
        assert answer.latency >= 0.02 + 4 * 0.005


def test_a_closed_loop_keeps_its_concurrency(crew: Crew, steady: tuple[str, SteadyServer]) -> None:
    measurement, prepared, served = run(crew, steady, ["--concurrency", "3", "--num-prompts", "12"])
    check_against_server(measurement, prepared, served)
    assert [answer.index for answer in measurement.answers] == list(range(12))
    assert concurrency(measurement.answers) == 3
    figures = measurement.figures
    assert (figures.num_completed, figures.num_prompt_tokens, figures.num_output_tokens) == (12, 12 * 20, 12 * 5)
    assert figures.num_without_usage == 0 and figures.queue is None


def test_several_processes_make_one_load(crew: Crew, steady: tuple[str, SteadyServer]) -> None:
    flags = ["--concurrency", "3", "--num-prompts", "12", "--processes", "2"]
    measurement, prepared, served = run(crew, steady, flags)
    check_against_server(measurement, prepared, served)
    assert [answer.index for answer in measurement.answers] == list(range(12))
    assert concurrency(measurement.answers) == 3
    assert len(measurement.clients) == 2
    assert sum(client.num_requests for client in measurement.clients) == 12
    # One has two of the three slots, so that a share by number of requests would leave the other one idle early.
    assert all(client.num_requests > 0 for client in measurement.clients)


def test_several_processes_keep_the_arrivals_of_one(crew: Crew, steady: tuple[str, SteadyServer]) -> None:
    flags = ["--rate", "60", "--num-prompts", "12"]
    alone, *_ = run(crew, steady, flags)
    together, prepared, served = run(crew, steady, [*flags, "--processes", "2"])
    check_against_server(together, prepared, served)
    due = [answer.arrived - alone.start for answer in alone.answers]
    assert [answer.arrived - together.start for answer in together.answers] == pytest.approx(due, abs=1e-6)
    assert due[-1] == pytest.approx(12 / 60, abs=1e-6)
    # Sent when due or later, never before.
    assert all(answer.sent >= answer.arrived for answer in together.answers)


def test_a_cap_holds_arrivals_back(crew: Crew, steady: tuple[str, SteadyServer]) -> None:
    flags = ["--rate", "inf", "--num-prompts", "6", "--max-concurrency", "2"]
    measurement, *_ = run(crew, steady, flags)
    assert concurrency(measurement.answers) == 2
    figures = measurement.figures
    assert figures.queue is not None and figures.queued_latency is not None and figures.e2el is not None
    # The last two wait for two rounds of at least 40 ms each.
    assert max(answer.queue_time for answer in measurement.answers) >= 2 * 0.04
    assert figures.queued_latency.mean == pytest.approx(figures.e2el.mean + figures.queue.mean)
    uncapped, *_ = run(crew, steady, ["--rate", "inf", "--num-prompts", "6"])
    assert concurrency(uncapped.answers) == 6


def test_a_duration_ends_sending_and_lets_answers_end(crew: Crew, steady: tuple[str, SteadyServer]) -> None:
    measurement, *_ = run(crew, steady, ["--concurrency", "2", "--duration", "0.2"])
    assert measurement.figures.num_completed == len(measurement.answers) >= 2
    # It ended, though the loop has no number of requests; and the last ones sent were read to their end.
    assert not measurement.is_interrupted


def test_numbers_of_requests() -> None:
    settings = read_flags(["--concurrency", "2"])
    assert num_requests_of(ClosedLoop(2), settings) == 64
    assert num_requests_of(ClosedLoop(100), settings) == 400
    assert num_requests_of(OpenLoop(8.0), read_flags(["--rate", "8", "--duration", "2.5"])) == 20
    assert num_requests_of(ClosedLoop(2), read_flags(["--duration", "2.5"])) is None


def test_a_trace_is_played_at_its_times(crew: Crew, steady: tuple[str, SteadyServer], tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(
        '{"timestamp": 0.1, "prompt_len": 9, "output_len": 2}\n'
        '{"timestamp": 0.0, "prompt": "Once upon a time", "output_len": 3}\n'
        '{"timestamp": 200, "input_length": 600, "output_length": 1, "hash_ids": [1, 2]}\n'
    )
    measurement, *_ = run(crew, steady, ["--trace", str(path), "--speed", "2"])
    answers = measurement.answers
    assert [answer.arrived - measurement.start for answer in answers] == pytest.approx([0, 0.05, 0.1], abs=1e-6)
    assert [answer.num_prompt_tokens for answer in answers] == [4, 9, 600]
    assert [answer.num_output_tokens for answer in answers] == [3, 2, 1]


def test_chat_prompts_are_text_of_exact_length(crew: Crew, steady: tuple[str, SteadyServer]) -> None:
    measurement, prepared, served = run(
        crew, steady, ["--concurrency", "1", "--num-prompts", "2", "--endpoint", "chat"]
    )
    check_against_server(measurement, prepared, served)
    assert [answer.num_prompt_tokens for answer in measurement.answers] == [20, 20]


def test_no_usage_is_noticed(crew: Crew) -> None:
    server = SteadyServer(0.0, 0.0, sends_usage=False)
    with loopback(server.app()) as url:
        measurement, *_ = run(crew, (url, server), ["--concurrency", "1", "--num-prompts", "2"])
    figures = measurement.figures
    assert (figures.num_without_usage, figures.num_output_tokens, figures.num_prompt_tokens) == (2, 10, 40)


def test_an_interrupt_keeps_what_was_measured(crew: Crew, steady: tuple[str, SteadyServer]) -> None:
    url, _ = steady
    settings, prepared = ready(url, ["--concurrency", "2", "--num-prompts", "100000"])
    interrupted = threading.Event()

    def watch(num_done: int, num_failed: int) -> None:
        if num_done >= 4 and not interrupted.is_set():
            interrupted.set()
            os.kill(os.getpid(), signal.SIGINT)

    (measurement,) = measure(crew, prepared, settings, settings.loads[0], itertools.count(), watch)
    assert measurement.is_interrupted
    assert measurement.figures.num_completed >= 4
    assert measurement.figures.num_failed == 0
    # The crew is whole, and does the next load.
    again, *_ = run(crew, steady, ["--concurrency", "2", "--num-prompts", "2"])
    assert again.figures.num_completed == 2


def test_a_client_process_that_dies_ends_the_run(steady: tuple[str, SteadyServer]) -> None:
    url, _ = steady
    settings, prepared = ready(url, ["--concurrency", "2", "--num-prompts", "100000"])
    others = set(multiprocessing.active_children())

    def watch(num_done: int, num_failed: int) -> None:
        for child in set(multiprocessing.active_children()) - others:
            child.kill()

    with Crew() as crew, pytest.raises(BenchmarkError, match="a client process died"):
        list(measure(crew, prepared, settings, settings.loads[0], itertools.count(), watch))


def test_a_client_that_falls_behind_is_noticed(steady: tuple[str, SteadyServer]) -> None:
    """A task that blocks the event loop stands for a client without the time to read."""
    url, _ = steady
    _, prepared = ready(url, ["--concurrency", "2", "--num-prompts", "8"])
    share = Share(prepared.target, prepared.template, prepared.source, 0, 60.0, slots=2, num_requests=8)
    numbers = itertools.count()
    controls = Controls(lambda: next(numbers), lambda is_good: None, lambda: False)

    async def starve() -> None:
        while True:
            time.sleep(0.05)
            await asyncio.sleep(0.001)

    async def starved() -> ClientFacts:
        starving = asyncio.create_task(starve())
        result = await run_share(share, Bodies(share), time.perf_counter(), controls)
        starving.cancel()
        assert all(answer.failure is None for answer in result.answers)
        return result.client

    facts = asyncio.run(starved())
    longest_gap = 0.05
    assert any("its event loop was" in limit for limit in facts.limits(longest_gap))


def test_what_makes_a_client_the_limit() -> None:
    calm = ClientFacts(10, cpu_share=0.3, lag_p50=0.0001, lag_p99=0.002, lag_max=0.02)
    assert calm.limits(0.005) == []
    assert calm.limits(0.0) == []
    busy = replace(calm, cpu_share=0.97)
    assert busy.limits(0.005) == ["a client process took 97% of a core"]
    late = replace(calm, lag_p99=0.03)
    assert late.limits(0.04) == ["its event loop was 30.0 ms late (p99)"]
    # Gaps of a second are the server's.
    assert late.limits(1.0) == []


def test_a_limited_client_is_given_more_processes(
    crew: Crew, steady: tuple[str, SteadyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every client counts as limited here, so that the second attempt is made; the last one counts."""
    monkeypatch.setattr("load.watch.MAX_CPU_SHARE", -1.0)
    monkeypatch.setattr("load.measure.most_processes", lambda base: 2)
    url, _ = steady
    settings, prepared = ready(url, ["--concurrency", "2", "--num-prompts", "4"])
    settings = replace(settings, num_processes=None)
    attempts = list(measure(crew, prepared, settings, settings.loads[0], itertools.count(), lambda done, bad: None))
    assert [len(attempt.clients) for attempt in attempts] == [1, 2]
    assert all(attempt.client_limits for attempt in attempts)


def test_a_server_on_this_machine_leaves_the_client_half_the_cores() -> None:
    cores = len(os.sched_getaffinity(0))
    assert most_processes("http://example.org") == cores
    for base in ("http://127.0.0.1:8000", "http://localhost", "http://[::1]:1"):
        assert most_processes(base) == max(1, cores // 2)
