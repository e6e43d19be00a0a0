"""`/v1/completions`, unstreamed: what the engine is asked, and what the reply says."""

from pathlib import Path
from typing import Any

import pytest
from fake_engine import cycling
from server_api import MODEL, Api, MakeApi
from small_tokenizers import byte_fallback, write_text_folder

from penstock_engine.outputs import Finish
from penstock_server.model import ServedModel

pytestmark = pytest.mark.anyio


async def reply(api: Api, **fields: object) -> Any:
    response = await api.complete(**fields)
    assert response.status_code == 200, response.text
    return response.json()


async def test_the_whole_reply(api: Api) -> None:
    api.say(" the wheel turns")
    got = await reply(api, seed=7, user="u", metadata={"a": "b"}, store=False)
    prompt, answer = len(api.encode("Hello")), len(api.encode(" the wheel turns")) + 1
    assert got.pop("id").startswith("cmpl-")
    assert got.pop("created") > 1.7e9 and got.pop("system_fingerprint").startswith("fp_")
    assert got == {
        "object": "text_completion",
        "model": MODEL,
        "seed": 7,
        "choices": [{"index": 0, "text": " the wheel turns", "logprobs": None, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "total_tokens": prompt + answer,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
    }


async def test_sixteen_tokens_by_default_and_none_for_zero(api: Api) -> None:
    got = await reply(api)
    assert got["usage"]["completion_tokens"] == 16 and got["choices"][0]["finish_reason"] == "length"
    got = await reply(api, max_tokens=0, n=2)
    assert [(c["text"], c["finish_reason"]) for c in got["choices"]] == [("", "length")] * 2
    assert got["usage"]["completion_tokens"] == 0 and len(api.engine.requests) == 1


async def test_the_default_gives_way_to_a_long_prompt(api: Api) -> None:
    got = await reply(api, prompt=[1] * 250)
    assert got["usage"]["completion_tokens"] == 6


async def test_what_the_engine_is_asked(api: Api) -> None:
    fields = {"temperature": 0.5, "top_k": 4, "min_tokens": 2, "stop_token_ids": [9], "priority": -3, "cache_salt": "s"}
    await reply(api, prompt=[5, 6], max_tokens=4, seed=11, **fields)
    (request,) = api.engine.requests
    assert (request.prompt, request.priority, request.cache_salt) == ((5, 6), -3, "s")
    assert (request.stop.max_tokens, request.stop.min_tokens) == (4, 2)
    assert request.stop.token_ids == (9, api.eos_id)
    assert request.decoding.seed == 11 and request.decoding.num_logprobs is None
    assert {step.name for step in request.decoding.chain} == {"temperature", "top_k", "min_tokens"}
    await reply(api, ignore_eos=True)
    assert api.engine.requests[-1].stop.token_ids == ()


async def test_a_seed_is_drawn_and_told(api: Api) -> None:
    seeds = {(await reply(api))["seed"] for _ in range(3)}
    assert len(seeds) == 3 and seeds == {request.decoding.seed for request in api.engine.requests}
    assert all(0 <= seed < 2**53 for seed in seeds)


async def test_every_prompt_times_n(api: Api) -> None:
    """Choice prompt*n + i; prompt tokens count once a prompt, generated ones over all choices."""
    words = [" water", " wheel", " world", " the"]
    tokens = [api.encode(word)[0] for word in words]
    api.engine.next_token = lambda request, choice, position: tokens[(request.prompt[0] - 1) * 2 + choice]
    got = await reply(api, prompt=[[1], [2, 3]], n=2, max_tokens=3)
    assert [choice["index"] for choice in got["choices"]] == [0, 1, 2, 3]
    single = [api.context.model.codec.tokenizer.decode([token] * 3) for token in tokens]
    assert [choice["text"] for choice in got["choices"]] == single
    assert (got["usage"]["prompt_tokens"], got["usage"]["completion_tokens"]) == (3, 12)
    assert len({request.decoding.seed for request in api.engine.requests}) == 1


@pytest.mark.parametrize("prompt", ["Hello", ["Hello"], [3, 4], [[3, 4]], ["a", "b"]])
async def test_shapes_of_prompts(api: Api, prompt: object) -> None:
    got = await reply(api, prompt=prompt)
    assert len(got["choices"]) == len(api.engine.requests)


async def test_more_prompts_than_may_wait_are_never_taken(api: Api) -> None:
    """They go to the engine all or none. The answer was a 429, `Retry-After` and all, also of a server with nothing to
    do: a client that came again as it was told never stopped."""
    most = api.context.client.info.max_queue
    assert len((await reply(api, prompt=["a"] * most))["choices"]) == most
    assert len((await reply(api, prompt=["a"] * (most + 1), max_tokens=0))["choices"]) == most + 1
    api.engine.requests.clear()
    for fields in ({}, {"max_tokens": 0, "prompt_logprobs": 0}):
        response = await api.complete(prompt=["a"] * (most + 1), **fields)
        assert (response.status_code, response.json()["error"]["param"]) == (400, "prompt")
    assert api.engine.requests == []


async def test_an_empty_prompt_begins_a_document(api: Api) -> None:
    await reply(api, prompt="")
    assert api.engine.requests[0].prompt == (api.context.model.codec.tokenizer.bos_id,)


async def test_long_prompts_and_large_bodies_are_read_aside(make_api: MakeApi) -> None:
    """They hold up no stream meanwhile; nothing else about them differs."""
    api = make_api(max_model_len=10**6)
    text = "the wheel turns, " * 8000
    await reply(api, prompt=[text, "short"], max_tokens=1)
    ids = api.encode(text)
    assert [list(request.prompt) for request in api.engine.requests] == [ids, api.encode("short")]
    await reply(api, prompt=ids, max_tokens=1)
    assert list(api.engine.requests[-1].prompt) == ids


async def test_a_completion_keeps_its_leading_space(make_api: MakeApi, tmp_path: Path) -> None:
    """SentencePiece drops the space that begins a text; in a continuation it divides two words."""
    tokenizer = byte_fallback()
    model = ServedModel.load(write_text_folder(tmp_path, tokenizer, bos_token="<s>", eos_token="</s>"), [MODEL])
    api = make_api(model)
    api.engine.next_token = cycling(tokenizer.encode("the", add_special_tokens=False).ids)
    assert (await reply(api, prompt="the", max_tokens=1))["choices"][0]["text"] == " the"
    assert (await reply(api, prompt="", max_tokens=1))["choices"][0]["text"] == "the"


async def test_echo(api: Api) -> None:
    api.say(" water")
    assert (await reply(api, echo=True))["choices"][0]["text"] == "Hello water"
    assert (await reply(api, echo=True, max_tokens=0))["choices"][0]["text"] == "Hello"
    ids = api.encode("the wheel")
    got = await reply(api, echo=True, prompt=[ids, api.encode("a")], n=2)
    assert [choice["text"] for choice in got["choices"]] == ["the wheel water"] * 2 + ["a water"] * 2


async def test_stop_strings_end_an_answer_in_the_engine_too(api: Api) -> None:
    text = "one STOP two"
    api.say(text)
    tokens = api.encode(text)
    tokenizer = api.context.model.codec.tokenizer
    counted = next(i for i in range(len(tokens) + 1) if "STOP" in tokenizer.decode(tokens[:i]))
    got = await reply(api, stop=["nothing", "STOP"], max_tokens=50)
    assert got["choices"][0]["text"] == "one " and got["choices"][0]["finish_reason"] == "stop"
    assert got["usage"]["completion_tokens"] == counted
    assert api.engine.streams[0].aborted == [0]


async def test_one_answers_stop_leaves_the_others(api: Api) -> None:
    texts = ["a STOP b", "no such thing here"]
    tokens = [[*api.encode(text), api.eos_id] for text in texts]
    api.engine.next_token = lambda request, choice, position: tokens[choice][position]
    got = await reply(api, n=2, stop="STOP", max_tokens=50)
    assert [choice["text"] for choice in got["choices"]] == ["a ", "no such thing here"]
    assert [choice["finish_reason"] for choice in got["choices"]] == ["stop", "stop"]
    assert api.engine.streams[0].aborted == [0]


async def test_held_text_is_released_at_the_end(api: Api) -> None:
    """A server that holds back what could begin a stop string must give it out when the answer ends otherwise."""
    api.say("water ST")
    assert (await reply(api, stop="STOP", max_tokens=50))["choices"][0]["text"] == "water ST"
    api.say("water ST", end=False)
    got = await reply(api, stop="STOP", max_tokens=len(api.encode("water ST")))
    assert (got["choices"][0]["text"], got["choices"][0]["finish_reason"]) == ("water ST", "length")


async def test_an_answer_that_ends_inside_a_character(api: Api) -> None:
    tokens = api.encode("x🦫")
    assert len(tokens) > 2, "the test needs a character of several tokens"
    api.engine.next_token = lambda request, choice, position: tokens[position]
    got = await reply(api, max_tokens=len(tokens) - 1)
    assert got["choices"][0]["text"] == api.context.model.codec.tokenizer.decode(tokens[:-1]) == "x\ufffd"


async def test_a_stop_token_is_not_shown(api: Api) -> None:
    stop = api.encode(" wheel")[0]
    tokens = [*api.encode(" the"), stop]
    api.engine.next_token = lambda request, choice, position: tokens[position]
    got = await reply(api, stop_token_ids=[stop])
    assert got["choices"][0]["text"] == " the" and got["choices"][0]["finish_reason"] == Finish.STOP.reason
    assert got["usage"]["completion_tokens"] == len(tokens)


async def test_the_older_layout_of_logprobs(api: Api) -> None:
    api.say(" wheel", end=False)
    tokens = api.encode(" wheel")
    label = api.context.model.codec.tokenizer.label
    got = (await reply(api, logprobs=2, max_tokens=len(tokens)))["choices"][0]["logprobs"]
    assert got["tokens"] == [label(token) for token in tokens]
    assert got["token_logprobs"] == [-0.25] * len(tokens)
    # The likeliest, and the chosen one with them.
    assert got["top_logprobs"][0] == {label(0): -1.0, label(1): -2.0, label(tokens[0]): -0.25}
    lengths = [len(token) for token in got["tokens"]]
    assert got["text_offset"] == [sum(lengths[:i]) for i in range(len(lengths))]


async def test_logprobs_zero_gives_the_chosen_token(api: Api) -> None:
    got = (await reply(api, logprobs=0, max_tokens=2))["choices"][0]["logprobs"]
    assert [list(top.values()) for top in got["top_logprobs"]] == [[-0.25], [-0.25]]
    assert (await reply(api, logprobs=3, max_tokens=0))["choices"][0]["logprobs"]["tokens"] == []


async def test_every_counted_token_has_its_logprob(api: Api) -> None:
    api.say("one STOP two")
    got = await reply(api, stop="STOP", logprobs=1, max_tokens=50)
    assert len(got["choices"][0]["logprobs"]["tokens"]) == got["usage"]["completion_tokens"]


async def test_served_names(make_api: MakeApi) -> None:
    api = make_api()
    assert (await reply(api, model="alias"))["model"] == "alias"
