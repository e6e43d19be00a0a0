"""What a reply tells of the prompt's own tokens: `prompt_logprobs`, and `echo` with `logprobs`.

The fake engine says -0.5 - i of the prompt's token i, and -0.125 - t of the likeliest tokens t = 0, 1, ... there.
"""

from itertools import pairwise
from typing import Any

import pytest
from server_api import Api, MakeApi, events

from penstock_server.prompt_tokens import MAX_TOLD
from penstock_server.replies.prompt_logprobs import prompt_logprobs

pytestmark = pytest.mark.anyio

COLUMNS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")


async def reply(api: Api, **fields: object) -> Any:
    response = await api.complete(**fields)
    assert response.status_code == 200, response.text
    return response.json()


async def chunks(api: Api, route: str = "complete", **fields: object) -> list[dict[str, Any]]:
    """The choices of all chunks."""
    response = await getattr(api, route)(stream=True, **fields)
    assert response.status_code == 200, response.text
    return [choice for _, data in events(response.text) for choice in data["choices"]]


def expected(api: Api, ids: list[int], count: int) -> list[dict[str, Any] | None]:
    """vLLM's layout of what the fake engine says of this prompt."""
    label = api.context.model.codec.tokenizer.label
    told: list[dict[str, Any] | None] = [None]
    for i, own in enumerate(ids[1:], 1):
        at_place = {str(own): {"logprob": -0.5 - i, "rank": i + 1, "decoded_token": label(own)}}
        for t in range(count):
            at_place[str(t)] = {"logprob": -0.125 - t, "rank": t + 1, "decoded_token": label(t)}
        told.append(at_place)
    return told


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_the_prompts_tokens_in_vllms_layout(api: Api, count: int) -> None:
    text = "the wheel turns"
    got = await reply(api, prompt=[text, "one"], n=2, prompt_logprobs=count, max_tokens=2)
    for choice in got["choices"]:
        ids = api.encode(text if choice["index"] < 2 else "one")
        assert choice["prompt_logprobs"] == expected(api, ids, count)
        assert choice["logprobs"] is None and choice["text"] == " water water"
    assert [request.reading.num_logprobs for request in api.engine.requests if request.reading] == [count] * 2


async def test_a_prompt_token_among_the_likeliest_is_told_once(api: Api) -> None:
    (choice,) = (await reply(api, prompt=[7, 1, 0], prompt_logprobs=2))["choices"]
    assert [list(place) for place in choice["prompt_logprobs"][1:]] == [["1", "0"], ["0", "1"]]
    assert choice["prompt_logprobs"][2]["0"]["rank"] == 1


async def test_nothing_is_read_unless_asked(api: Api) -> None:
    for fields in ({}, {"logprobs": 2}, {"echo": True}, {"prompt_logprobs": None}):
        (choice,) = (await reply(api, **fields))["choices"]
        assert "prompt_logprobs" not in choice
    assert {request.reading for request in api.engine.requests} == {None}


async def test_in_chat_it_stands_beside_the_choices(api: Api) -> None:
    response = await api.chat(prompt_logprobs=1, n=2, return_token_ids=True)
    got = response.json()
    assert got["prompt_logprobs"] == expected(api, got["prompt_token_ids"], 1)
    assert all("prompt_logprobs" not in choice for choice in got["choices"])
    pieces = await chunks(api, "chat", prompt_logprobs=1, n=2, max_tokens=3)
    for index in (0, 1):
        own = [piece for piece in pieces if piece["index"] == index]
        assert own[0]["prompt_logprobs"] == got["prompt_logprobs"] and own[0]["delta"]["role"] == "assistant"
        assert all("prompt_logprobs" not in piece for piece in own[1:])


async def test_echoed_tokens_come_before_the_answers(api: Api) -> None:
    """OpenAI's older layout, over prompt and answer; the first token has nothing before it, and so no figures."""
    label = api.context.model.codec.tokenizer.label
    text, ids, water = "the 🦫 turns", api.encode("the 🦫 turns"), api.encode(" water")[0]
    (choice,) = (await reply(api, prompt=text, echo=True, logprobs=1, max_tokens=2))["choices"]
    assert choice["text"] == text + " water water"
    told = choice["logprobs"]
    assert told["tokens"] == [*map(label, ids), " water", " water"]
    assert told["token_logprobs"] == [None, *(-0.5 - i for i in range(1, len(ids))), -0.25, -0.25]
    assert told["top_logprobs"][0] is None
    assert told["top_logprobs"][1] == {label(0): -0.125, label(ids[1]): -1.5}
    assert told["top_logprobs"][-1] == {label(0): -1.0, label(water): -0.25}
    places = [*told["text_offset"], len(choice["text"])]
    parts = [choice["text"][start:end] for start, end in pairwise(places)]
    assert "".join(parts) == choice["text"]
    # Each part is its token's, but for the parts of a character, which goes to the last of them.
    assert [part for part, name in zip(parts, told["tokens"], strict=True) if not name.startswith("bytes:")] == [
        name for name in told["tokens"] if not name.startswith("bytes:")
    ]
    assert "🦫" in parts


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n": 2, "prompt": ["the wheel", "a", "🦫"]},
        {"prompt": [[5, 6, 7], [8]], "prompt_logprobs": 4},
        {"prompt": "the wheel turns", "truncate_prompt_tokens": 2},
        {"return_tokens_as_token_ids": True, "return_token_ids": True},
        {"stop": "ter"},
        {"prompt": ""},
        {"logprobs": 0},
        {"processed_logprobs": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("max_tokens", [0, 1, 3])
async def test_streamed_equals_not_streamed(api: Api, fields: dict[str, Any], max_tokens: int) -> None:
    """The prompt's columns come once, with the first chunk of each choice; whatever is asked beside them."""
    asked = {"prompt": "the wheel", "echo": True, "logprobs": 2, "max_tokens": max_tokens, "seed": 1, **fields}
    whole = await reply(api, **asked)
    pieces = await chunks(api, **asked)
    assert len(whole["choices"]) == len(api.engine.requests) // 2 * fields.get("n", 1)
    for choice in whole["choices"]:
        own = [piece for piece in pieces if piece["index"] == choice["index"]]
        assert "".join(piece["text"] for piece in own) == choice["text"]
        for name in COLUMNS:
            assert [one for piece in own for one in piece["logprobs"][name]] == choice["logprobs"][name]
        assert own[-1]["finish_reason"] == choice["finish_reason"]
        assert [piece["prompt_logprobs"] for piece in own if "prompt_logprobs" in piece] == (
            [choice["prompt_logprobs"]] if "prompt_logprobs" in choice else []
        )
        assert len(set(map(len, (choice["logprobs"][name] for name in COLUMNS)))) == 1


async def test_a_prompt_is_read_and_nothing_generated(api: Api) -> None:
    got = await reply(api, prompt=["the wheel", "a"], echo=True, logprobs=1, max_tokens=0, n=2)
    ids = [api.encode("the wheel"), api.encode("a")]
    assert [(c["text"], c["finish_reason"]) for c in got["choices"]] == [("the wheel", "length")] * 2 + [
        ("a", "length")
    ] * 2
    assert [len(c["logprobs"]["tokens"]) for c in got["choices"]] == [len(ids[0])] * 2 + [len(ids[1])] * 2
    assert got["usage"]["completion_tokens"] == 0
    assert [request.stop.max_tokens for request in api.engine.requests] == [0, 0]
    (choice,) = (await reply(api, prompt_logprobs=0, max_tokens=0))["choices"]
    assert choice["text"] == "" and choice["prompt_logprobs"] == [None]


async def test_without_tokens_a_prompt_is_still_checked(api: Api) -> None:
    """The engine is not asked, and so could not refuse it."""
    for prompt, param in (([10**6], "prompt.0"), ([1] * 257, "prompt"), ([-1], "prompt.0")):
        for more in ({}, {"prompt_logprobs": 1}):
            response = await api.complete(prompt=prompt, max_tokens=0, **more)
            assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert api.engine.requests == []


async def test_the_larger_count_is_asked_and_each_told_its_own(api: Api) -> None:
    (choice,) = (await reply(api, prompt=[9, 9], echo=True, logprobs=1, prompt_logprobs=3, max_tokens=0))["choices"]
    assert api.engine.requests[0].reading is not None and api.engine.requests[0].reading.num_logprobs == 3
    assert len(choice["logprobs"]["top_logprobs"][1]) == 2 and len(choice["prompt_logprobs"][1]) == 4


async def test_what_the_chain_left_is_told_of_the_answer_only(api: Api) -> None:
    """The prompt was not chosen from anything."""
    (choice,) = (await reply(api, prompt=[9, 9], echo=True, logprobs=1, processed_logprobs=1, max_tokens=1))["choices"]
    assert len(choice["logprobs"]["tokens"]) == 3
    assert choice["logprobs"]["processed_logprobs"]["text_offset"] == choice["logprobs"]["text_offset"][2:]


async def test_an_echo_of_special_tokens_follows_the_field(api: Api) -> None:
    ids = [*api.encode("a"), api.eos_id, *api.encode("b")]
    for skips, text in ((True, "ab"), (False, "a<|im_end|>b")):
        fields = {"prompt": ids, "echo": True, "logprobs": 0, "skip_special_tokens": skips, "max_tokens": 0}
        (choice,) = (await reply(api, **fields))["choices"]
        assert choice["text"] == text and choice["logprobs"]["text_offset"] == [0, 1, len(text) - 1]


@pytest.mark.parametrize("value", [-1, 21, "1", True, 1.5])
@pytest.mark.parametrize("route", ["complete", "chat"])
async def test_counts_that_are_refused(api: Api, route: str, value: object) -> None:
    """-1, which asks vLLM for the whole vocabulary, too."""
    response = await getattr(api, route)(prompt_logprobs=value)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "prompt_logprobs")


async def test_the_servers_own_limit_holds(make_api: MakeApi) -> None:
    api = make_api(max_logprobs=2)
    assert (await api.complete(prompt_logprobs=2)).status_code == 200
    response = await api.complete(prompt_logprobs=3)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "prompt_logprobs")


@pytest.mark.parametrize("route", ["complete", "chat"])
async def test_a_prompt_is_written_once_for_all_its_choices(
    api: Api, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was written for each choice: the first step of a stream with 64 of them behind 1000 tokens took the event
    loop 2.7 seconds, in which nobody else was told anything."""
    written: list[int] = []

    def counted(token_ids: Any, *rest: Any) -> Any:
        written.append(len(token_ids))
        return prompt_logprobs(token_ids, *rest)

    monkeypatch.setattr("penstock_server.replies.prompt_logprobs.prompt_logprobs", counted)
    told = [
        piece["prompt_logprobs"]
        for piece in await chunks(api, route, n=8, prompt_logprobs=2, max_tokens=1)
        if "prompt_logprobs" in piece
    ]
    assert len(told) == 8 and len(written) == 1
    assert all(each == told[0] and len(each) == written[0] for each in told)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt_logprobs": 20}, "prompt_logprobs"),
        ({"prompt_logprobs": 0, "echo": True, "logprobs": 20}, "prompt_logprobs"),
        ({"echo": True, "logprobs": 20, "max_tokens": 0}, "logprobs"),
    ],
)
@pytest.mark.parametrize("num_times", [1, 4])
async def test_a_reply_that_would_fill_the_memory_is_refused(
    make_api: MakeApi, fields: dict[str, Any], param: str, num_times: int
) -> None:
    """Two bytes of a body are a token id, and a token can be told with 20 others, once for each of 128 answers: a
    request of a few megabytes took tens of gigabytes of the API process."""
    api = make_api(max_model_len=10**6)
    one_too_many = MAX_TOLD // 21 // num_times + 1
    asked = {"prompt": [[1] * (one_too_many - 1), [1]], "n": num_times, "max_tokens": 1, **fields}
    response = await api.complete(**asked)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param), response.text[:300]
    assert not api.engine.requests
