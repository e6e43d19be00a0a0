"""Server-sent events, byte for byte: what the chunks hold, and that they hold exactly the unstreamed answer."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server_api import Api, MakeApi, listening, send

from penstock_engine.errors import EngineUnavailable, RequestFailed

pytestmark = pytest.mark.anyio


def events(body: str) -> list[str]:
    """The data of each event; comments (pings) are no events."""
    blocks = [block for block in body.split("\n\n") if block and not block.startswith(":")]
    assert body.endswith("\n\n") and all(block.startswith("data: ") for block in blocks)
    return [block.removeprefix("data: ") for block in blocks]


def chunks(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    *data, done = events(response.text)
    assert done == "[DONE]" and "null" not in data
    return [json.loads(one) for one in data]


def joined(given: Sequence[dict[str, Any]], num_choices: int = 1) -> list[tuple[str, str | None]]:
    """Text and finish reason of each choice; no reason but in a choice's last chunk."""
    texts, reasons = [""] * num_choices, [None] * num_choices
    for chunk in given:
        for choice in chunk["choices"]:
            index = choice["index"]
            assert reasons[index] is None, "a chunk after the last one"
            texts[index] += choice["text"] if "text" in choice else choice["delta"].get("content", "")
            reasons[index] = choice["finish_reason"]
    return list(zip(texts, reasons, strict=True))


async def test_completion_chunks(api: Api) -> None:
    api.say(" the wheel")
    got = chunks(await api.complete(stream=True, seed=3))
    assert len({chunk["id"] for chunk in got}) == 1
    for chunk in got:
        assert chunk.keys() == {"id", "object", "created", "model", "system_fingerprint", "seed", "choices"}
        assert chunk["object"] == "text_completion" and chunk["seed"] == 3
        assert [choice.keys() for choice in chunk["choices"]] == [{"index", "text", "logprobs", "finish_reason"}]
    assert joined(got) == [(" the wheel", "stop")]


async def test_chat_chunks(api: Api) -> None:
    api.say("Hi 🙂")
    got = chunks(await api.chat(stream=True, seed=3))
    assert {chunk["object"] for chunk in got} == {"chat.completion.chunk"} and {chunk["seed"] for chunk in got} == {3}
    deltas = [chunk["choices"][0]["delta"] for chunk in got]
    assert deltas[0] == {"role": "assistant", "content": ""} and deltas[-1] == {}
    assert all(delta.keys() == {"content"} and delta["content"] for delta in deltas[1:-1])
    assert joined(got) == [("Hi 🙂", "stop")]


@pytest.mark.parametrize("route", ["complete", "chat"])
async def test_usage_is_one_last_chunk_when_asked_for(api: Api, route: str) -> None:
    ask = getattr(api, route)
    got = chunks(await ask(stream=True, stream_options={"include_usage": True}, max_tokens=3, n=2))
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in got[:-1])
    whole = (await ask(max_tokens=3, n=2)).json()
    assert got[-1]["choices"] == [] and got[-1]["usage"] == whole["usage"]
    assert all("usage" not in chunk for chunk in chunks(await ask(stream=True, max_tokens=3)))


@pytest.mark.parametrize("route", ["complete", "chat"])
async def test_nothing_generated(api: Api, route: str) -> None:
    got = chunks(await getattr(api, route)(stream=True, max_tokens=0, n=2))
    assert joined(got, 2) == [("", "length")] * 2


@pytest.mark.parametrize("route", ["complete", "chat"])
@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_streamed_is_exactly_unstreamed(api: Api, route: str, data: st.DataObject) -> None:
    """Any tokens, so also broken characters; stop strings that may or may not come; several answers."""
    n = data.draw(st.integers(1, 3))
    answers = data.draw(st.lists(st.lists(st.integers(0, 410), min_size=1, max_size=12), min_size=n, max_size=n))
    api.engine.next_token = lambda request, choice, position: answers[choice][position % len(answers[choice])]
    stop = data.draw(st.lists(st.sampled_from(["e", "th", "wheel", " ", "\ufffd"]), max_size=2))
    fields = {"n": n, "max_tokens": data.draw(st.integers(1, 14)), "stop": stop, "seed": 1}
    ask = getattr(api, route)
    whole = (await ask(**fields)).json()
    got = chunks(await ask(**fields, stream=True, stream_options={"include_usage": True}))
    texts = [choice["text"] if "text" in choice else choice["message"]["content"] for choice in whole["choices"]]
    reasons = [choice["finish_reason"] for choice in whole["choices"]]
    assert joined(got, n) == list(zip(texts, reasons, strict=True))
    assert got[-1]["usage"] == whole["usage"]
    assert not any(one in text for one in stop for text in texts)


async def test_streamed_logprobs_are_the_unstreamed_ones(api: Api) -> None:
    api.say("the 🦫 wheel")
    whole = (await api.complete(logprobs=2, max_tokens=30)).json()["choices"][0]["logprobs"]
    got = chunks(await api.complete(logprobs=2, max_tokens=30, stream=True))
    parts = [chunk["choices"][0]["logprobs"] for chunk in got]
    assert {key: [item for part in parts for item in part[key]] for key in whole} == whole
    fields = {"logprobs": True, "top_logprobs": 1, "max_tokens": 30}
    content = (await api.chat(**fields)).json()["choices"][0]["logprobs"]["content"]
    streamed = [chunk["choices"][0]["logprobs"] for chunk in chunks(await api.chat(**fields, stream=True))]
    assert [item for part in streamed if part for item in part["content"]] == content


async def test_echo_leads_each_answer(api: Api) -> None:
    api.say(" water")
    got = chunks(await api.complete(stream=True, echo=True, prompt=["a", "b"], n=2))
    assert joined(got, 4) == [("a water", "stop")] * 2 + [("b water", "stop")] * 2


async def test_chunks_arrive_as_they_are_made(api: Api) -> None:
    """One send for each engine step, before the next step is made."""
    words = api.encode(" water wheel")
    api.engine.next_token = lambda request, choice, position: words[position]
    api.engine.hold()
    async with listening(api) as url, httpx.AsyncClient(base_url=url, timeout=20) as client:
        body = {"model": "alias", "prompt": "x", "stream": True, "max_tokens": 2, "n": 2}
        async with client.stream("POST", "/v1/completions", json=body) as response:
            arriving = response.aiter_raw()
            for step in range(2):
                api.engine.release()
                sent = (await anext(arriving)).decode()
                assert sent.count("data: {") == 2, f"both answers of step {step} in one piece"


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (RequestFailed("a non-finite logit"), "a non-finite logit"),
        (EngineUnavailable("the engine ended"), "the engine ended"),
        (RuntimeError("/secret/path"), "its log says why"),
    ],
)
async def test_a_fault_after_the_first_byte_is_an_event(api: Api, fault: Exception, told: str) -> None:
    def failing(request: object, choice: int, position: int) -> int:
        api.engine.fault = fault if position == 1 else None
        return 65

    api.engine.next_token = failing
    response = await api.complete(stream=True)
    assert response.status_code == 200 and "[DONE]" not in response.text
    last = response.text.rstrip("\n").split("\n\n")[-1]
    name, data = last.split("\n")
    assert name == "event: error"
    error = json.loads(data.removeprefix("data: "))["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert told in error["message"] and "/secret" not in error["message"]
    # A fault of ours is not a client that went away.
    assert "penstock_aborted_requests_total 0.0" in api.context.metrics.render().decode()


async def test_one_failing_prompt_fails_the_request_and_ends_the_others(api: Api) -> None:
    def failing(request: Any, choice: int, position: int) -> int:
        if request.prompt == (2,):
            raise RequestFailed("this one alone")
        return 65

    api.engine.next_token = failing
    response = await api.complete(prompt=[[1], [2], [3]], max_tokens=200)
    assert response.status_code == 500 and "this one alone" in response.json()["error"]["message"]
    assert all(stream.aborted for stream in api.engine.streams)


async def test_pings_keep_a_silent_stream_alive(make_api: MakeApi) -> None:
    api = make_api(ping_interval=0.01)
    api.engine.hold()
    async with listening(api) as url, httpx.AsyncClient(base_url=url, timeout=20) as client:
        body = {"model": "alias", "prompt": "x", "stream": True, "max_tokens": 1}
        async with client.stream("POST", "/v1/completions", json=body) as response:
            lines = response.aiter_lines()
            assert await anext(lines) == ": ping"
            api.engine.release()
            rest = [line async for line in lines]
    assert "data: [DONE]" in rest


async def test_a_slow_reader_is_left_behind_and_in_the_end_dropped(make_api: MakeApi) -> None:
    """Its socket's buffer fills, its own stream waits, others go on; after `send_timeout` its request is aborted."""
    api = make_api(send_timeout=0.2, max_model_len=10**6)
    async with listening(api) as url:
        reader, writer = await send(url, stream=True, max_tokens=900_000, ignore_eos=True)
        await reader.readuntil(b"\n\n")
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            answer = await client.post("/v1/completions", json={"model": "alias", "prompt": "y", "max_tokens": 4})
            assert answer.status_code == 200
        await asyncio.wait_for(api.engine.streams[0].end.wait(), 20)
        assert api.engine.streams[0].aborted == [None]
        writer.close()


@pytest.mark.parametrize("fields", [{"stop": ["nothing", "STOP"]}, {"stop_token_ids": [1]}, {}])
async def test_what_ended_an_answer(api: Api, fields: dict[str, Any]) -> None:
    """`stop_reason`, as vLLM has it: the string, or the token of the request's own; the model's own end is none."""
    api.say("a STOP b")
    if "stop_token_ids" in fields:
        fields = {"stop_token_ids": [api.encode("a STOP b")[1], api.eos_id]}
    expected = (fields.get("stop") or fields.get("stop_token_ids") or [None])[-1 if "stop" in fields else 0]
    for ask in (api.complete, api.chat):
        (whole,) = (await ask(max_tokens=30, **fields)).json()["choices"]
        ends = [chunk["choices"][0] for chunk in chunks(await ask(max_tokens=30, stream=True, **fields))]
        for choice in (whole, ends[-1]):
            assert (choice["finish_reason"], choice.get("stop_reason")) == ("stop", expected)
        assert not any("stop_reason" in choice for choice in ends[:-1])
