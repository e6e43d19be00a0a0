"""`/v1/score`: which tokens count, what is made of their log-probabilities, and what is refused.

The fake engine says -0.5 - i of token i of what it reads, and that its rank is i + 1.
"""

import asyncio
import math
from pathlib import Path
from typing import Any

import httpx
import pytest
from server_api import MODEL, Api, MakeApi, listening
from small_tokenizers import byte_fallback, word_level, write_text_folder

from penstock_engine.errors import QueueFull
from penstock_server.model import ServedModel
from penstock_server.prompt_tokens import MAX_TOLD
from penstock_server.schemas.score import ELSEWHERE, MAX_SCORES

pytestmark = pytest.mark.anyio


async def ask(api: Api, **fields: object) -> httpx.Response:
    return await api.client.post("/v1/score", json={"model": MODEL, **fields})


async def scores(api: Api, **fields: object) -> list[dict[str, Any]]:
    response = await ask(api, **fields)
    assert response.status_code == 200, response.text
    data: list[dict[str, Any]] = response.json()["data"]
    assert [one["index"] for one in data] == list(range(len(data))) and {one["object"] for one in data} == {"score"}
    return data


@pytest.fixture
def with_bos(make_api: MakeApi, tmp_path: Path) -> Api:
    """A tokenizer that begins each text with a token of its own, as Llama's does."""
    folder = write_text_folder(tmp_path, byte_fallback(), bos_token="<s>", eos_token="</s>")
    return make_api(ServedModel.load(folder, [MODEL]))


async def test_the_whole_reply(api: Api) -> None:
    text = "the wheel"
    ids = api.encode(text)
    response = await ask(api, input=text)
    got = response.json()
    assert got.pop("id").startswith("score-") and got.pop("created") > 1.7e9
    logs = [-0.5 - i for i in range(1, len(ids))]
    total, num_bytes = sum(logs), len(text) - len(api.context.model.codec.tokenizer.label(ids[0]))
    (data,) = got.pop("data")
    assert got == {
        "object": "list",
        "model": MODEL,
        "usage": {"prompt_tokens": len(ids), "total_tokens": len(ids)},
    }
    assert data == {
        "object": "score",
        "index": 0,
        "log_likelihood": total,
        "mean_log_likelihood": total / len(logs),
        "perplexity": pytest.approx(math.exp(-total / len(logs))),
        "bits_per_byte": pytest.approx(-total / math.log(2) / num_bytes),
        "num_tokens": len(logs),
        "num_bytes": num_bytes,
        "is_greedy": False,
    }
    (request,) = api.engine.requests
    assert (list(request.prompt), request.stop.max_tokens) == (ids, 0)
    assert request.reading is not None and request.reading.num_logprobs == 0


@pytest.mark.parametrize("given", ["the wheel turns", ["the wheel", "a"], [5, 6, 7], [[5, 6], [7, 8, 9]]])
async def test_shapes_of_inputs(api: Api, given: Any) -> None:
    prompts = (
        given if isinstance(given[0], list) or (isinstance(given, list) and isinstance(given[0], str)) else [given]
    )
    ids = [tuple(api.encode(one)) if isinstance(one, str) else tuple(one) for one in prompts]
    assert [one["num_tokens"] for one in await scores(api, input=given)] == [len(one) - 1 for one in ids]
    assert [request.prompt for request in api.engine.requests] == ids


async def test_what_follows_a_context_counts(api: Api) -> None:
    """Both are encoded as one; a token that spans them, a word with its space, is the input's."""
    label = api.context.model.codec.tokenizer.label
    whole = api.encode("the wheel turns")
    for before, text in (("the", " wheel turns"), ("the ", "wheel turns")):
        (one,) = await scores(api, context=before, input=text, logprobs=0)
        assert api.engine.requests[-1].prompt == tuple(whole)
        told = one["logprobs"]
        first = len(whole) - len(told["tokens"])
        assert told["tokens"] == [label(token) for token in whole[first:]]
        assert "".join(told["tokens"]) == " wheel turns" and told["text_offset"][0] == len("the")
        assert told["token_logprobs"] == [-0.5 - i for i in range(first, len(whole))]
        assert one["num_bytes"] == len(text.encode())
    (one,) = await scores(api, context="th", input="e wheel turns", logprobs=0)
    assert "".join(one["logprobs"]["tokens"])[-len(" wheel turns") :] == " wheel turns"


async def test_it_counts_as_lm_eval_does(api: Api) -> None:
    """lm-eval moves the spaces at a context's end to what follows, encodes the context, and counts the tokens that the
    whole has beyond it; where no token spans the two the figures are the same."""
    for before, text in (("the wheel", " turns"), ("Hello ", "world"), ("naïve ", "café, grüße"), ("water,", " 🙂")):
        (one,) = await scores(api, context=before, input=text, logprobs=0)
        whole = api.encode(before + text)
        start = api.encode(before.rstrip())
        assert whole[: len(start)] == start, "the case is about texts without such a token"
        assert one["num_tokens"] == len(whole) - len(start)


async def test_one_context_for_all_or_one_for_each(api: Api) -> None:
    await scores(api, context="the", input=[" wheel", " water"])
    assert [r.prompt for r in api.engine.requests] == [tuple(api.encode(t)) for t in ("the wheel", "the water")]
    api.engine.requests.clear()
    await scores(api, context=["a", "the"], input=[" wheel", " water"])
    assert [r.prompt for r in api.engine.requests] == [tuple(api.encode(t)) for t in ("a wheel", "the water")]
    api.engine.requests.clear()
    first, second = await scores(api, context=[[5], [6, 7]], input=[[8], [8, 9]])
    assert [r.prompt for r in api.engine.requests] == [(5, 8), (6, 7, 8, 9)]
    assert (first["log_likelihood"], second["log_likelihood"]) == (-1.5, -2.5 - 3.5)


async def test_the_beginning_of_a_document(api: Api) -> None:
    """Where the tokenizer puts no token there, an empty context does: then the first one counts as well."""
    bos_id, ids = api.context.model.codec.tokenizer.bos_id, api.encode("the wheel")
    assert bos_id is not None
    (one,) = await scores(api, context="", input="the wheel")
    assert api.engine.requests[-1].prompt == (bos_id, *ids)
    assert one["num_tokens"] == len(ids) and one["num_bytes"] == len("the wheel")
    for given in (ids, [bos_id, *ids]):
        (one,) = await scores(api, context="", input=given)
        assert api.engine.requests[-1].prompt == (bos_id, *ids) and one["num_tokens"] == len(ids)


async def test_a_tokenizer_that_begins_texts_itself(with_bos: Api) -> None:
    ids = with_bos.encode("the water")
    for fields in ({}, {"context": ""}):
        (one,) = await scores(with_bos, input="the water", **fields)
        assert with_bos.engine.requests[-1].prompt == tuple(ids)
        assert one["num_tokens"] == len(ids) - 1 and one["num_bytes"] == len("the water")
    (one,) = await scores(with_bos, context="the", input=" water", add_special_tokens=False)
    assert with_bos.engine.requests[-1].prompt == tuple(ids[1:])
    assert one["num_tokens"] == len(ids) - 2 and one["num_bytes"] == len(" water")


async def test_labels_without_a_likelihood_are_not_compared(api: Api, make_api: MakeApi, tmp_path: Path) -> None:
    """A label that only the very first token of the text writes, or no token at all, has nothing that counts: its
    log-likelihood was the empty sum, 0, and it was told as the likeliest of all, whatever the model says."""
    assert len(api.encode(" the")) == 1
    response = await ask(api, input=" th", labels=[" water", "e"])
    assert (response.status_code, response.json()["error"]["param"]) == (400, "labels.1"), response.text
    of_words = make_api(ServedModel.load(write_text_folder(tmp_path, word_level()), [MODEL]))
    response = await ask(of_words, input="Hello", labels=[" ", " water"])
    assert (response.status_code, response.json()["error"]["param"]) == (400, "labels.0"), response.text
    (one,) = await scores(of_words, input="Hello", labels=[" wheel,", " water"])
    assert one["label"] == " wheel,"


async def test_a_text_of_no_tokens(make_api: MakeApi, tmp_path: Path) -> None:
    """A tokenizer that leaves out white space makes nothing of a blank: that was an error 500, and with the beginning
    of a document before it another one."""
    of_words = make_api(ServedModel.load(write_text_folder(tmp_path, word_level(), bos_token="[UNK]"), [MODEL]))
    (one,) = await scores(of_words, input=" ", context="", logprobs=1)
    assert (one["log_likelihood"], one["num_tokens"], one["num_bytes"]) == (0, 0, 0)
    assert [request.prompt for request in of_words.engine.requests] == [
        (of_words.context.model.codec.tokenizer.bos_id,)
    ]
    response = await ask(of_words, input=["Hello", " "])
    assert (response.status_code, response.json()["error"]["param"]) == (400, "input.1"), response.text


async def test_a_text_of_one_token_has_no_figures(api: Api) -> None:
    (one,) = await scores(api, input=[5], logprobs=1)
    assert (one["log_likelihood"], one["num_tokens"], one["num_bytes"]) == (0, 0, 0)
    assert one["mean_log_likelihood"] is one["perplexity"] is one["bits_per_byte"] is None
    assert one["logprobs"] == {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}


async def test_a_perplexity_beyond_all_numbers(api: Api) -> None:
    """exp() raised an error for what the model thinks impossible."""
    (one,) = await scores(api, context=[1] * 200, input=[2])
    assert one["perplexity"] == pytest.approx(math.exp(200.5))
    logs = await scores(api, context=[[1] * 100, [1]], input=[[2], [3]])
    assert [one["log_likelihood"] for one in logs] == [-100.5, -1.5]


async def test_the_likeliest_tokens_beside_each(api: Api) -> None:
    label = api.context.model.codec.tokenizer.label
    (one,) = await scores(api, input=[9, 1, 0], logprobs=2)
    assert one["logprobs"]["tokens"] == [label(1), label(0)]
    assert one["logprobs"]["top_logprobs"] == [{label(0): -0.125, label(1): -1.125}] * 2
    assert one["logprobs"]["text_offset"] == [1, 2]


async def test_labels_to_choose_from(api: Api) -> None:
    labels = [" turns and turns", " water", " the"]
    data = await scores(api, input=["the wheel", "a"], labels=labels)
    assert len(data) == 2 and len(api.engine.requests) == 6
    for one, text in zip(data, ("the wheel", "a"), strict=True):
        told = one["labels"]
        assert [entry["label"] for entry in told] == labels
        sums = []
        for label, entry in zip(labels, told, strict=True):
            (alone,) = await scores(api, context=text, input=label)
            assert {key: alone[key] for key in alone if key not in ("object", "index")} == {
                key: entry[key] for key in entry if key not in ("label", "probability")
            }
            sums.append(alone["log_likelihood"])
        odds = [math.exp(value) for value in sums]
        assert [entry["probability"] for entry in told] == pytest.approx([odd / sum(odds) for odd in odds])
        assert one["label"] == labels[sums.index(max(sums))]
    (one,) = await scores(api, input=[5, 6], labels=[[7], [8, 9]])
    assert one["label"] == [7] and [entry["label"] for entry in one["labels"]] == [[7], [8, 9]]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input.1"),
        ({"input": []}, "input"),
        ({"input": [[]]}, "input.0"),
        ({"input": ["a", [1]]}, "input.1"),
        ({"input": 5}, "input"),
        ({"input": [500]}, "input.0"),
        ({"input": [[1], [2, 500]]}, "input.1.1"),
        ({"input": [1], "context": [500]}, "context.0"),
        ({"input": ["a", "b"], "context": ["a", "b", "c"]}, "context"),
        ({"input": "a", "context": [1]}, "context"),
        ({"input": [1], "context": "a"}, "context"),
        ({"input": "a", "labels": ["b"]}, "labels"),
        ({"input": "a", "labels": "b"}, "labels"),
        ({"input": "a", "labels": ["b", ""]}, "labels.1"),
        ({"input": "a", "labels": [[1], [2]]}, "labels"),
        ({"input": "a", "labels": ["b", "c"], "context": "d"}, "context"),
        ({"input": ["a"] * MAX_SCORES, "labels": ["b", "c"]}, "input"),
        ({"input": [1] * 257}, "input"),
        ({"input": [[1], [1] * 200], "context": [2] * 57}, "input.1"),
        ({"input": "x" * 100_000}, "input"),
        ({"input": "a", "logprobs": 21}, "logprobs"),
        ({"input": "a", "logprobs": -1}, "logprobs"),
        ({"input": "a", "label": ["b", "c"]}, "label"),
        ({}, "input"),
        *(({"input": "a", name: "b"}, name) for name in ELSEWHERE),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value)[:50],
)
async def test_refusals(api: Api, fields: dict[str, Any], param: str) -> None:
    response = await ask(api, **fields)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param
    assert api.engine.requests == []


async def test_the_context_is_not_exceeded(api: Api) -> None:
    """A text may fill it: nothing has to be generated behind it."""
    (one,) = await scores(api, input=[1] * 256)
    assert one["num_tokens"] == 255
    error = (await ask(api, input=[1] * 257)).json()["error"]
    assert error["code"] == "context_length_exceeded" and "257" in error["message"]


async def test_other_refusals(make_api: MakeApi) -> None:
    api = make_api(max_logprobs=3)
    assert (await ask(api, input="a b", logprobs=3)).status_code == 200
    assert (await ask(api, input="a b", logprobs=4)).json()["error"]["param"] == "logprobs"
    response = await api.client.post("/v1/score", json={"model": "other", "input": "a"})
    assert (response.status_code, response.json()["error"]["param"]) == (404, "model")
    api.engine.refusal = QueueFull(3, retry_after=3)
    response = await ask(api, input="a b")
    assert response.status_code == 429 and response.headers["retry-after"] == "3"


@pytest.mark.parametrize("fields", [{"context": "the wheel " * 4}, {"labels": ["a " * 9, "the " * 9]}], ids=str)
async def test_a_small_body_does_not_make_much_of_itself(make_api: MakeApi, fields: dict[str, Any]) -> None:
    """What is encoded with each of many inputs counts each time, against what a whole body may have."""
    api = make_api(max_request_bytes=2000)
    assert (await ask(api, input=["a b"] * 10, **fields)).status_code == 200
    response = await ask(api, input=["a b"] * 100, **fields)
    assert (response.status_code, response.json()["error"]["param"]) == (400, *fields)


async def test_a_lenient_server_says_what_it_passed_over(make_api: MakeApi) -> None:
    response = await ask(make_api(lenient=True), input="a b", lable="c")
    assert response.json()["warnings"] == ["lable: unknown field; did you mean 'labels'?"]


async def test_a_client_that_goes_away_ends_all_of_it(api: Api) -> None:
    api.engine.hold()
    async with listening(api) as url, httpx.AsyncClient(base_url=url) as client:
        body = {"model": MODEL, "input": ["a b", "the wheel"]}
        asked = asyncio.create_task(client.post("/v1/score", json=body))
        while len(api.engine.streams) < 2:
            assert not asked.done()
            await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait_for(asyncio.gather(*(stream.end.wait() for stream in api.engine.streams)), 10)
    assert [stream.aborted for stream in api.engine.streams] == [[None]] * 2


async def test_long_texts_are_read_aside(make_api: MakeApi) -> None:
    api = make_api(max_model_len=10**6)
    text = "the wheel turns, " * 1000
    (one,) = await scores(api, input=text, context="Hello ")
    assert one["num_tokens"] == len(api.encode("Hello " + text)) - 1


async def test_of_a_context_and_of_what_labels_follow_nothing_is_asked(api: Api) -> None:
    """So that the engine may take it from the prefix cache, however many labels there are."""
    await scores(api, input=" turns", context="the wheel")
    await scores(api, input="the wheel", labels=[" turns", " stops", "s"])
    firsts = [request.reading.first for request in api.engine.requests if request.reading is not None]
    assert firsts == [len(api.encode("the wheel"))] * 4


@pytest.mark.parametrize(("num_top", "param"), [(None, "input"), (20, "logprobs")])
async def test_a_reply_that_would_fill_the_memory_is_refused(
    make_api: MakeApi, num_top: int | None, param: str
) -> None:
    """Two bytes of a body are a token id: a request of a few megabytes took gigabytes of the API process."""
    api = make_api(max_model_len=10**7)
    count = MAX_TOLD // ((num_top or 0) + 1) + 2
    response = await ask(api, input=[1] * count, logprobs=num_top)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param), response.text[:300]
    assert not api.engine.requests
