"""Searches over HTTP: answers that are settled late, several tokens at once, with scores, and fewer than asked for."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special
from server_api import MODEL, Api, events, listening
from stepping_engine import letters_script

from penstock_engine.outputs import Finish, StepOutput, StepTrace, TokenLogprobs, TokenOutput

pytestmark = pytest.mark.anyio

ROUTES = ("complete", "chat")


def joined(chunks: Sequence[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """What the chunks of a stream say of each choice, as an unstreamed reply says it."""
    whole: dict[int, dict[str, Any]] = {}
    for choice in [choice for chunk in chunks for choice in chunk["choices"]]:
        own = whole.setdefault(choice["index"], {"text": "", "told": [], "traces": []})
        assert "finish_reason" not in own, "a chunk after the last one"
        own["text"] += choice["text"] if "text" in choice else choice["delta"].get("content", "")
        own["told"].append(choice["logprobs"])
        own["traces"] += choice["chain_trace"]["content"] if "chain_trace" in choice else []
        if choice["finish_reason"] is not None:
            own |= {key: choice[key] for key in ("finish_reason", "score", "inclusion_probability") if key in choice}
        else:
            assert not choice.keys() & {"score", "inclusion_probability"}
    return whole


def concatenated(parts: Sequence[Any]) -> Any:
    """The logprobs objects of a choice's chunks, as one."""
    parts = [part for part in parts if part is not None]
    if not parts or not isinstance(parts[0], dict):
        return [item for part in parts for item in part] if parts else None
    return {key: concatenated([part[key] for part in parts]) for key in parts[0]}


async def assert_streamed_equals_whole(api: Api, route: str, **fields: object) -> list[dict[str, Any]]:
    """Both replies say the same; returns the whole one's choices."""
    response = await getattr(api, route)(**fields)
    assert response.status_code == 200, response.text
    whole = response.json()
    streamed = await getattr(api, route)(**fields, stream=True, stream_options={"include_usage": True})
    chunks = [data for _, data in events(streamed.text)]
    assert chunks[-1]["usage"] == whole["usage"]
    parts = joined(chunks)
    assert sorted(parts) == [choice["index"] for choice in whole["choices"]]
    for choice in whole["choices"]:
        part = parts[choice["index"]]
        assert part["text"] == (choice["text"] if route == "complete" else choice["message"]["content"])
        for key in ("finish_reason", "score", "inclusion_probability"):
            assert part.get(key) == choice.get(key)
        assert concatenated(part["told"]) == choice["logprobs"]
        if "chain_trace" in choice:
            assert part["traces"] == choice["chain_trace"]["content"]
    choices: list[dict[str, Any]] = whole["choices"]
    return choices


SEARCHES: list[dict[str, Any]] = [
    {"num_beams": 4, "n": 3},
    {"use_beam_search": True, "n": 2, "temperature": 0.5, "top_k": 20},
    {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0, "n": 4, "early_stopping": True},
    {"decoding": {"strategy": "stochastic_beam", "width": 3}},
    {"decoding": {"strategy": "constrained_beam", "width": 4, "words": [[10, 11], [12]]}, "n": 2},
    {"best_of": 4, "n": 2},
    {"n": 2},
    {"temperature": 0},
]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("search", SEARCHES, ids=json.dumps)
async def test_streamed_equals_whole(real: Api, route: str, search: dict[str, Any]) -> None:
    """Text, reasons, scores, log-probabilities and usage of every strategy, whenever it settles its tokens."""
    logprobs = {"logprobs": 2} if route == "complete" else {"logprobs": True, "top_logprobs": 2}
    fields = {**search, **logprobs, "processed_logprobs": 1, "chain_trace": True, "seed": 5, "max_tokens": 12}
    choices = await assert_streamed_equals_whole(real, route, **fields)
    has_score = "n" not in search or len(search) > 1
    assert all(("score" in choice) == (has_score and search != {"temperature": 0}) for choice in choices)
    if "best_of" in search or "num_beams" in search:
        scores = [choice["score"] for choice in choices]
        assert scores == sorted(scores, reverse=True)
    stochastic = "stochastic_beam" in json.dumps(search)
    assert all(("inclusion_probability" in choice) == stochastic for choice in choices)


@pytest.mark.parametrize("route", ROUTES)
@given(data=st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_stop_strings_in_searches(real: Api, route: str, data: st.DataObject) -> None:
    """Stop strings cut what is settled at once as they cut what comes token by token."""
    search = data.draw(st.sampled_from(SEARCHES))
    stop = data.draw(st.lists(st.sampled_from(["a", "e", "+", "1", "K", "\ufffd"]), min_size=1, max_size=2))
    fields = {**search, "stop": stop, "seed": data.draw(st.integers(0, 50)), "max_tokens": 10}
    for choice in await assert_streamed_equals_whole(real, route, **fields):
        text = choice["text"] if route == "complete" else choice["message"]["content"]
        assert not any(one in text for one in stop)


def burst(choice: int, tokens: Sequence[int], score: float | None, finish: Finish = Finish.LENGTH) -> list[TokenOutput]:
    """An answer that is settled in one step."""
    outputs = [TokenOutput(choice, token, Finish.OPEN) for token in tokens[:-1]]
    return [*outputs, TokenOutput(choice, tokens[-1], finish, score=score)]


@pytest.mark.parametrize("route", ROUTES)
async def test_fewer_answers_than_asked_for(api: Api, route: str) -> None:
    """A search that finds two answers of three says so by giving two, streamed or not."""
    one, two = api.encode(" the wheel"), api.encode(" water")
    api.engine.outputs = [
        StepOutput((TokenOutput(0, one[0], Finish.OPEN),), False, 4),
        StepOutput((), False),
        StepOutput((*burst(0, one[1:], -1.5), *burst(1, [*two, api.eos_id], -2.5, Finish.STOP)), True),
    ]
    choices = await assert_streamed_equals_whole(api, route, num_beams=3, n=3)
    texts = [choice["text"] if route == "complete" else choice["message"]["content"] for choice in choices]
    assert texts == [" the wheel", " water"]
    assert [(choice["finish_reason"], choice["score"]) for choice in choices] == [("length", -1.5), ("stop", -2.5)]
    usage = (await getattr(api, route)(num_beams=3, n=3)).json()["usage"]
    assert usage["completion_tokens"] == len(one) + len(two) + 1
    assert "penstock_aborted_requests_total 0.0" in api.context.metrics.render().decode()


async def test_fewer_answers_to_one_of_several_prompts(api: Api) -> None:
    """The others keep their places: answer i of prompt p is choice p * n + i."""
    token = api.encode(" water")[0]
    found = {1: 2, 2: 1, 3: 2}

    class Outputs:
        """What each stream gives, one after the other."""

        def __iter__(self) -> Any:
            prompt = len(self.seen) + 1
            self.seen.append(prompt)
            yield StepOutput(tuple(t for i in range(found[prompt]) for t in burst(i, [token], -1.0)), True)

        def __init__(self) -> None:
            self.seen: list[int] = []

    api.engine.outputs = Outputs()  # type: ignore[assignment]  # iterated once by each stream
    got = (await api.complete(prompt=[[1], [2], [3]], num_beams=2, n=2)).json()
    assert [choice["index"] for choice in got["choices"]] in ([0, 1, 2, 4, 5], [0, 1, 2, 3, 4], [0, 2, 3, 4, 5])
    assert len(got["choices"]) == 5


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("given", [[], [TokenOutput(0, 65, Finish.OPEN)]], ids=["none", "an unfinished one"])
async def test_no_whole_answer_is_a_fault(api: Api, route: str, given: list[TokenOutput]) -> None:
    """An engine that ends a request without one whole answer has failed it."""
    api.engine.outputs = [StepOutput(tuple(given), True)]
    response = await getattr(api, route)(num_beams=2)
    assert (response.status_code, response.json()["error"]["code"]) == (500, "generation_failed")
    assert "event: error" in (await getattr(api, route)(num_beams=2, stream=True)).text


@pytest.mark.parametrize("route", ROUTES)
async def test_a_stop_string_within_what_is_settled_at_once(api: Api, route: str) -> None:
    """The text is cut, the tokens behind are neither shown nor counted, and the score, which is theirs too, is not
    told. An answer that goes on in the engine is ended there."""
    tokens = api.encode("one STOP two")
    decode = api.context.model.codec.tokenizer.decode
    counted = next(i for i in range(len(tokens) + 1) if "STOP" in decode(tokens[:i]))
    api.engine.outputs = [StepOutput(tuple(burst(0, tokens, -1.0)), True)]
    (choice,) = await assert_streamed_equals_whole(api, route, num_beams=2, stop="STOP")
    text = choice["text"] if route == "complete" else choice["message"]["content"]
    assert (text, choice["finish_reason"], "score" in choice) == ("one ", "stop", False)
    assert (await getattr(api, route)(num_beams=2, stop="STOP")).json()["usage"]["completion_tokens"] == counted
    assert [stream.aborted for stream in api.engine.streams] == [[]] * 3
    head = tuple(TokenOutput(0, token, Finish.OPEN) for token in tokens)
    api.engine.outputs = [StepOutput(head, False), StepOutput(tuple(burst(1, tokens[:1], -2.0)), True)]
    choices = await assert_streamed_equals_whole(api, route, num_beams=2, n=2, stop="STOP")
    assert [choice["finish_reason"] for choice in choices] == ["stop", "length"]
    assert [stream.aborted for stream in api.engine.streams[3:]] == [[0]] * 2


async def test_one_chunk_for_all_that_one_step_settles(api: Api) -> None:
    """Not one for each token: a search may settle thousands."""
    tokens = api.encode("the wheel turns and the water runs")
    api.engine.outputs = [StepOutput(tuple(burst(0, tokens, -1.0)), True)]
    told = events((await api.complete(num_beams=2, stream=True)).text)
    assert [data["choices"][0]["text"] for _, data in told] == ["the wheel turns and the water runs"]


def logprobs_after(prompt: Sequence[int], tokens: Sequence[int], change: Callable[[Any], Any]) -> NDArray[np.float64]:
    """[tokens, vocab] log-probabilities by scipy, of the script's logits changed by a function."""
    rows = [change(letters_script([*prompt, *tokens[:i]]).astype(np.float64)) for i in range(len(tokens))]
    return np.asarray(special.log_softmax(np.stack(rows), axis=-1))


def cut(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Temperature 0.5, then the 3 largest."""
    scaled = logits / 0.5
    return np.where(scaled >= np.sort(scaled)[-3], scaled, -np.inf)


@pytest.mark.parametrize("search", [{"n": 2}, {"num_beams": 3, "n": 2}], ids=json.dumps)
async def test_processed_logprobs(real: Api, search: dict[str, Any]) -> None:
    """Beside the model's own, in the same layout; both are those of the script's logits, to float32."""
    prompt = [5, 6, 7]
    fields = {**search, "temperature": 0.5, "top_k": 3, "max_tokens": 6, "seed": 1, "ignore_eos": True}
    got = (await real.complete(prompt=prompt, logprobs=2, processed_logprobs=2, chain_trace=True, **fields)).json()
    tokenizer = real.context.model.codec.tokenizer
    for choice in got["choices"]:
        told, processed = choice["logprobs"], choice["logprobs"]["processed_logprobs"]
        assert processed.keys() == told.keys() - {"processed_logprobs"}
        assert processed["tokens"] == told["tokens"] and processed["text_offset"] == told["text_offset"]
        tokens = [next(i for i in range(500) if tokenizer.label(i) == label) for label in told["tokens"]]
        own, cuts = logprobs_after(prompt, tokens, lambda logits: logits), logprobs_after(prompt, tokens, cut)
        places = np.arange(len(tokens)), tokens
        assert told["token_logprobs"] == pytest.approx(own[places].tolist(), abs=1e-5)
        assert processed["token_logprobs"] == pytest.approx(cuts[places].tolist(), abs=1e-5)
        assert max(processed["top_logprobs"][0].values()) == pytest.approx(cuts[0].max(), abs=1e-5)
        if "num_beams" in search:
            assert choice["score"] == pytest.approx(cuts[places].sum() / len(tokens), abs=1e-5)
        steps = [item["steps"] for item in choice["chain_trace"]["content"]]
        assert [item["token"] for item in choice["chain_trace"]["content"]] == told["tokens"]
        assert [[step["name"] for step in one] for one in steps] == [["temperature", "top_k"]] * len(tokens)
        kept = np.exp(logprobs_after(prompt, tokens, lambda logits: logits / 0.5)) * np.isfinite(cuts)
        assert [one[1]["kept_mass"] for one in steps] == pytest.approx(kept.sum(-1).tolist(), abs=1e-5)
        assert [one[1]["kept_count"] for one in steps] == [3] * len(tokens)


async def test_processed_logprobs_alone(real: Api) -> None:
    """Without the model's own there is only the one key, and in chat a content of null."""
    choice = (await real.complete(processed_logprobs=0, max_tokens=2)).json()["choices"][0]
    assert choice["logprobs"].keys() == {"processed_logprobs"}
    assert len(choice["logprobs"]["processed_logprobs"]["top_logprobs"][0]) == 1
    told = (await real.chat(processed_logprobs=3, max_tokens=2)).json()["choices"][0]["logprobs"]
    assert told["content"] is None and len(told["processed_logprobs"]["content"][0]["top_logprobs"]) == 3
    choice = (await real.chat(chain_trace=True, max_tokens=2)).json()["choices"][0]
    assert choice["logprobs"] is None and [item["steps"] for item in choice["chain_trace"]["content"]] == [[], []]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("field", "value"),
    [("processed_logprobs", -1), ("processed_logprobs", 21), ("processed_logprobs", True), ("chain_trace", 1)],
)
async def test_wrong_values(api: Api, route: str, field: str, value: object) -> None:
    response = await getattr(api, route)(**{field: value})
    assert (response.status_code, response.json()["error"]["param"]) == (400, field)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"num_beams": 4, "use_beam_search": True}, "use_beam_search"),
        ({"num_beams": 4, "decoding": {"strategy": "beam", "width": 4}}, "num_beams"),
        ({"length_penalty": 0.5}, "length_penalty"),
        ({"best_of": 2, "n": 3}, "best_of"),
        ({"num_beams": 4, "n": 5}, "n"),
        ({"num_beams": 9}, "num_beams"),
        ({"best_of": 9}, "best_of"),
        ({"use_beam_search": True, "best_of": 9, "n": 2}, "best_of"),
    ],
    ids=json.dumps,
)
async def test_what_cannot_be_is_a_400(api: Api, route: str, fields: dict[str, Any], param: str) -> None:
    response = await getattr(api, route)(**fields)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert not api.engine.requests


async def test_nothing_is_told_unasked(api: Api) -> None:
    """Whatever the engine sends along, a reply holds what was asked for."""
    beside = TokenLogprobs(-1.0, ())
    trace = (StepTrace("top_k", 1.0, 2, 0.5, 0.5),)
    token = TokenOutput(0, 65, Finish.LENGTH, beside, beside, trace=trace)
    api.engine.outputs = [StepOutput((token,), True)]
    for route in ROUTES:
        (choice,) = await assert_streamed_equals_whole(api, route)
        assert choice["logprobs"] is None and not choice.keys() & {"score", "inclusion_probability", "chain_trace"}


async def test_the_openai_client(real: Api) -> None:
    """Further keys reach its user, and events of our own are chunks without choices to it."""
    async with listening(real) as url, openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as client:
        body: dict[str, Any] = {"num_beams": 3, "processed_logprobs": 1}
        messages: Any = [{"role": "user", "content": "Hello"}]
        whole = await client.chat.completions.create(
            model=MODEL, messages=messages, max_tokens=8, n=2, logprobs=True, extra_body=body
        )
        scores = [(choice.model_extra or {})["score"] for choice in whole.choices]
        assert scores == sorted(scores, reverse=True) and scores[0] < 0
        assert whole.choices[0].logprobs is not None
        assert (whole.choices[0].logprobs.model_extra or {})["processed_logprobs"]["content"]
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=messages,
            max_tokens=8,
            n=2,
            stream=True,
            extra_body=body | {"stream_options": {"decoding_events": True}},
        )
        texts = ["", ""]
        async for chunk in stream:
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
        assert texts == [choice.message.content for choice in whole.choices]
