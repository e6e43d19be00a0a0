"""Several API workers in front of one engine: whichever answers, it is one server; and what becomes of it when a
worker, the engine or the parent ends."""

import contextlib
import json
import os
import re
import signal
from collections.abc import Iterator

import httpx
import pytest
from real_server import WAIT_SECONDS, Served, serving
from worker_processes import client_of_each, ends_of, engine_pid, until, worker_of, worker_pids

MODEL = {"model": "demo", "prompt": "Once upon a time", "seed": 5, "ignore_eos": True}
WHOLE = 12  # tokens of an answer that is waited for
ENDLESS = 1000  # of one that is not: minutes


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    """For tests after which it is whole again."""
    with serving("demo", "--api-workers", "2") as served:
        yield served


@pytest.fixture
def breakable() -> Iterator[Served]:
    """For tests that end it."""
    with serving("demo", "--api-workers", "2", "--kv-cache-memory", "16MiB") as served:
        yield served


def samples(client: httpx.Client) -> dict[str, float]:
    """All samples of /metrics, labels and all."""
    lines = client.get("/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


@contextlib.contextmanager
def stream(client: httpx.Client, max_tokens: int) -> Iterator[Iterator[str]]:
    """The lines of a stream that has begun."""
    body = {**MODEL, "max_tokens": max_tokens, "stream": True}
    with client.stream("POST", "/v1/completions", json=body) as reply:
        assert reply.status_code == 200
        lines = reply.iter_lines()
        assert next(lines).startswith("data: {")
        yield lines


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """The engine stands still: no stream comes to its end."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def until_status(client: httpx.Client, path: str, status: int) -> None:
    until(lambda: client.get(path).status_code, lambda seen: seen == status, path)


def rest(lines: Iterator[str]) -> list[str]:
    return [line for line in lines if line]


def test_connections_are_spread(server: Served) -> None:
    """Of 32, none to a worker: once in 2 ** 31 runs."""
    with contextlib.ExitStack() as clients:
        opened = [clients.enter_context(httpx.Client(base_url=server.url, timeout=WAIT_SECONDS)) for _ in range(32)]
        assert {worker_of(server, client.get("/version")) for client in opened} == set(worker_pids(server))


def test_all_workers_are_one_server(server: Served) -> None:
    with client_of_each(server) as clients:
        models = [client.get("/v1/models").json() for client in clients]
        answers = []
        for client in clients:
            answer = client.post("/v1/completions", json={**MODEL, "max_tokens": WHOLE}).json()
            answers.append((answer["system_fingerprint"], answer["choices"]))
        health = [client.get(path).status_code for client in clients for path in ("/health", "/ready")]
    assert models[0] == models[1]
    assert answers[0] == answers[1]
    assert health == [200] * 4


def test_metrics_are_those_of_all(server: Served) -> None:
    """Whichever is asked. (Requests are counted when their response is sent, and so perhaps read.)"""
    name = 'penstock_answers_total{finish_reason="length"}'
    with client_of_each(server) as (one, other):
        before = samples(one).get(name, 0)
        for client, times in ((one, 2), (other, 3)):
            for _ in range(times):
                client.post("/v1/completions", json={**MODEL, "max_tokens": 1})
        for client in (one, other):
            got = samples(client)
            assert (got[name] - before, got["penstock_api_workers"]) == (5, 2)
        with stream(one, ENDLESS), stream(other, ENDLESS):
            got = server.metrics()
            assert (got["penstock_engine_requests_running"], got["penstock_http_in_flight"]) == (2, 3)
    names = ("penstock_engine_requests_running", "penstock_http_in_flight")
    until(lambda: [server.metrics()[name] for name in names], lambda seen: seen == [0, 1], "aborts")


def test_responses_are_stored_for_all(server: Served) -> None:
    with client_of_each(server) as (one, other):
        asked = {"model": "demo", "input": "Who are you?", "store": True, "max_output_tokens": 3}
        stored = one.post("/v1/responses", json=asked).json()
        assert other.get(f"/v1/responses/{stored['id']}").json() == stored
        items = other.get(f"/v1/responses/{stored['id']}/input_items").json()["data"]
        assert [item["role"] for item in items] == ["user"]
        going_on = {**asked, "input": "And I?", "previous_response_id": stored["id"]}
        second = other.post("/v1/responses", json=going_on).json()
        items = one.get(f"/v1/responses/{second['id']}/input_items").json()["data"]
        assert [item["role"] for item in items] == ["user", "assistant", "user"]
        assert other.delete(f"/v1/responses/{stored['id']}").json()["deleted"]
        assert one.get(f"/v1/responses/{stored['id']}").status_code == 404
        assert one.post("/v1/responses", json=going_on).json()["error"]["param"] == "previous_response_id"


def test_a_response_is_there_for_all_when_its_client_has_had_its_end(server: Served) -> None:
    """Asked of another worker at once, before the one that made it has said another word."""
    with client_of_each(server) as (one, other):
        for _ in range(5):
            asked = {"model": "demo", "input": "x", "store": True, "stream": True, "max_output_tokens": 1}
            with one.stream("POST", "/v1/responses", json=asked) as reply:
                for line in reply.iter_lines():
                    if line.startswith("data: ") and '"response.incomplete"' in line:
                        response = json.loads(line[6:])["response"]
                        break
                assert other.get(f"/v1/responses/{response['id']}").json() == response


def test_a_killed_worker_takes_only_its_own_requests_along(server: Served) -> None:
    """They end in the engine, the others' streams go on, another worker takes its place, and no counter goes back."""
    with client_of_each(server) as (one, other), stream(one, ENDLESS) as broken:
        counted = samples(other)
        with stream(other, WHOLE) as whole:
            killed, left = worker_pids(server)
            os.kill(killed, signal.SIGKILL)
            with pytest.raises(httpx.TransportError):
                rest(broken)
            assert rest(whole)[-1] == "data: [DONE]"

        def look() -> dict[str, float]:
            return samples(other)

        def is_whole(seen: dict[str, float]) -> bool:
            return seen["penstock_engine_requests_running"] == 0 and seen["penstock_api_workers"] == 2

        seen = until(look, is_whole, "after the end of a worker")
        assert (seen["penstock_engine_up"], seen["penstock_engine_kv_blocks_in_use"]) == (1, 0)
        assert {name for name in counted if "_total" in name and seen[name] < counted[name]} == set()
    assert left in worker_pids(server) and len(worker_pids(server)) == 2
    with client_of_each(server) as clients:
        for client in clients:
            assert client.post("/v1/completions", json={**MODEL, "max_tokens": 1}).status_code == 200


def test_a_killed_engine_is_another_one_for_all(server: Served) -> None:
    """All open streams are told; /health is red and green again in each worker; then all answer."""
    with client_of_each(server) as (one, other), stream(one, ENDLESS) as first, stream(other, ENDLESS) as second:
        os.kill(engine_pid(server), signal.SIGKILL)
        for lines in (first, second):
            told = rest(lines)
            assert "event: error" in told
            assert "service_unavailable_error" in told[-1]
    with client_of_each(server) as clients:
        for client in clients:
            until_status(client, "/health", 200)
            assert client.post("/v1/completions", json={**MODEL, "max_tokens": 1}).status_code == 200
            assert samples(client)["penstock_engine_up"] == 1


def test_sigterm_drains_all_workers(breakable: Served) -> None:
    """New requests are refused by each while the open ones come to their end; then all is gone."""
    ours = [*worker_pids(breakable), engine_pid(breakable)]
    with (
        ends_of(ours) as all_ended,
        client_of_each(breakable) as (one, other),
        client_of_each(breakable) as watching,
        stream(one, WHOLE) as first,
        stream(other, WHOLE) as second,
    ):
        with frozen(engine_pid(breakable)):
            breakable.process.terminate()
            for client in watching:
                until_status(client, "/ready", 503)
                refused = client.post("/v1/completions", json={**MODEL, "max_tokens": 1})
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        for lines in (first, second):
            assert rest(lines)[-1] == "data: [DONE]"
        assert breakable.process.wait(WAIT_SECONDS) == 0
        all_ended()


def test_a_second_signal_ends_at_once(breakable: Served) -> None:
    ours = [*worker_pids(breakable), engine_pid(breakable)]
    with (
        ends_of(ours) as all_ended,
        client_of_each(breakable) as (one, _),
        client_of_each(breakable) as (watching, _),
        stream(one, ENDLESS) as lines,
    ):
        breakable.process.terminate()
        until_status(watching, "/ready", 503)
        breakable.process.send_signal(signal.SIGINT)
        assert breakable.process.wait(WAIT_SECONDS) == 128 + signal.SIGINT
        all_ended()
        with contextlib.suppress(httpx.TransportError):
            assert "data: [DONE]" not in rest(lines)
    assert breakable.process.stderr is not None
    assert "Traceback" not in breakable.process.stderr.read()


def test_nobody_outlives_the_parent(breakable: Served) -> None:
    with ends_of([*worker_pids(breakable), engine_pid(breakable)]) as all_ended:
        breakable.process.kill()
        all_ended()


def test_the_port_is_refused_to_a_second_server(server: Served) -> None:
    """Sockets that share a port let in whoever shares it too, a second server started by mistake among them."""
    port = re.findall(r"\d+", server.url)[-1]
    for flags in ((), ("--api-workers", "2")):
        with (
            pytest.raises(pytest.fail.Exception, match=f"cannot listen on 127.0.0.1 port {port}"),
            serving("demo", "--port", port, *flags),
        ):
            raise AssertionError("never")
