"""What an answer has to look like, in every client's words: read, refused by name, and kept by a real server."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai import OpenAI
from real_server import Served, serving
from server_api import Api

from penstock_engine.config import EngineConfig
from penstock_engine.errors import RequestRefused
from penstock_engine.llm import LLM
from penstock_server.errors import BadRequest
from penstock_server.schemas.structured import Structured, read_structured
from penstock_server.serve import DEMO_MODEL
from penstock_server.text.codec import TextCodec

pytestmark = pytest.mark.anyio

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "mood": {"enum": ["glad", "sad"]},
        "size": {"type": "integer", "minimum": 0, "maximum": 20},
        "parts": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
    },
    "required": ["mood", "size", "parts"],
    "additionalProperties": False,
}
ANY = {"type": "object"}

READ: list[tuple[dict[str, Any], Structured | None]] = [
    ({}, None),
    ({"response_format": {"type": "text"}}, None),
    ({"response_format": {"type": "json_object"}}, Structured("response_format", "guided_json", ANY)),
    (
        {"response_format": {"type": "json_object", "schema": SCHEMA}},
        Structured("response_format.schema", "guided_json", SCHEMA),
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}},
        Structured("response_format.json_schema.schema", "guided_json", SCHEMA),
    ),
    ({"structured_outputs": {}}, None),
    ({"structured_outputs": {"disable_fallback": True}}, None),
    ({"structured_outputs": {"json": SCHEMA}}, Structured("structured_outputs.json", "guided_json", SCHEMA)),
    ({"structured_outputs": {"regex": "a"}}, Structured("structured_outputs.regex", "guided_regex", "a")),
    ({"structured_outputs": {"choice": ["a"]}}, Structured("structured_outputs.choice", "guided_choice", ["a"])),
    ({"structured_outputs": {"grammar": "g"}}, Structured("structured_outputs.grammar", "guided_grammar", "g")),
    ({"structured_outputs": {"json_object": True}}, Structured("structured_outputs.json_object", "guided_json", ANY)),
    (
        {"structured_outputs": {"json": SCHEMA, "disable_any_whitespace": True}},
        Structured("structured_outputs.json", "guided_json", SCHEMA | {"x-guidance": {"whitespace_flexible": False}}),
    ),
    (
        {"guided_json": json.dumps(ANY), "guided_whitespace_pattern": " ?"},
        Structured("guided_json", "guided_json", ANY | {"x-guidance": {"whitespace_pattern": " ?"}}),
    ),
    ({"guided_regex": "a"}, Structured("guided_regex", "guided_regex", "a")),
    ({"guided_choice": ["a"]}, Structured("guided_choice", "guided_choice", ["a"])),
    ({"guided_grammar": "g"}, Structured("guided_grammar", "guided_grammar", "g")),
    ({"json_schema": SCHEMA}, Structured("json_schema", "guided_json", SCHEMA)),
    ({"grammar": 'root ::= "a"'}, Structured("grammar", "guided_grammar", 'root ::= "a"')),
]


@pytest.mark.parametrize(("fields", "expected"), READ, ids=lambda value: str(value)[:60])
def test_every_spelling(fields: dict[str, Any], expected: Structured | None) -> None:
    assert read_structured(fields) == expected


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"response_format": "json"}, "response_format"),
    ({"response_format": {}}, "response_format.type"),
    ({"response_format": {"type": "structural_tag"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format.json_schema.schema"),
    ({"response_format": {"type": "json_object", "json_schema": {}}}, "response_format.json_schema"),
    ({"response_format": {"type": "text", "shema": {}}}, "response_format.shema"),
    ({"structured_outputs": []}, "structured_outputs"),
    ({"structured_outputs": {"jsn": {}}}, "structured_outputs.jsn"),
    ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag"),
    ({"structured_outputs": {"json_object": "yes"}}, "structured_outputs.json_object"),
    ({"structured_outputs": {"json": {}, "whitespace_pattern": 1}}, "structured_outputs.whitespace_pattern"),
    ({"structured_outputs": {"regex": "a", "disable_any_whitespace": True}}, "structured_outputs"),
    ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs.choice"),
    ({"guided_whitespace_pattern": " "}, "guided_whitespace_pattern"),
    ({"guided_regex": "a", "guided_whitespace_pattern": " "}, "guided_whitespace_pattern"),
    ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "response_format"),
    ({"json_schema": {}, "guided_json": {}}, "json_schema"),
]


@pytest.mark.parametrize(("fields", "param"), WRONG, ids=lambda value: str(value)[:60])
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_structured(fields)
    assert caught.value.param == param


def test_two_at_once_name_both() -> None:
    with pytest.raises(BadRequest, match="guided_json and json_schema both") as caught:
        read_structured({"json_schema": {}, "guided_json": {}})
    assert caught.value.code == "invalid_value"


BODIES: list[tuple[dict[str, Any], str, str]] = [
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": 1}}},
        "response_format.json_schema.schema",
        "",
    ),
    ({"guided_choice": []}, "guided_choice", "1 to 4096"),
    ({"structured_outputs": {"choice": ["a", 1]}}, "structured_outputs.choice.1", "string"),
    ({"json_schema": "{"}, "json_schema", "not JSON"),
    ({"grammar": 7}, "grammar", "string"),
    (
        {"response_format": {"type": "json_object"}, "decoding": {"chain": [{"top_k": 4}]}},
        "response_format",
        "response_format and decoding.chain both shape",
    ),
    (
        {"decoding": {"chain": [{"grammar": {"regex": "a", "choice": ["a"]}}]}},
        "decoding.chain.0.grammar.choice",
        "both",
    ),
    ({"decoding": {"chain": [{"grammar": {}}]}}, "decoding.chain.0.grammar.json_schema", "needs one of"),
    ({"decoding": {"chain": [{"top_k": 4}, {"grammar": {"regex": "a"}}]}}, "decoding.chain.1.grammar", "before top_k"),
]


@pytest.mark.parametrize("route", ["complete", "chat"])
@pytest.mark.parametrize(("fields", "param", "told"), BODIES, ids=lambda value: str(value)[:50])
async def test_faults_name_the_callers_field(
    api: Api, route: str, fields: dict[str, Any], param: str, told: str
) -> None:
    response = await getattr(api, route)(**fields)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)
    assert told in error["message"] and not api.engine.requests


async def test_what_reaches_the_engine(api: Api) -> None:
    """The grammar stands first in the chain, before the other flat fields' steps."""
    await api.chat(response_format={"type": "json_object"}, temperature=0.5, top_k=3, max_tokens=1)
    (request,) = api.engine.requests
    assert [step.name for step in request.decoding.chain] == ["grammar", "temperature", "top_k"]
    assert json.loads(request.decoding.chain[0].params.json_schema) == ANY


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving("demo") as server:
        yield server


def post(served: Served, route: str = "completions", **fields: Any) -> httpx.Response:
    asked = {"prompt": "Once"} if route == "completions" else {"messages": [{"role": "user", "content": "Hello"}]}
    body = {"model": "demo", "max_tokens": 200, **asked, **fields}
    return httpx.post(f"{served.url}/v1/{route}", json=body, timeout=60)


def check_schema(text: str) -> None:
    value = json.loads(text)
    assert list(value) == ["mood", "size", "parts"]
    assert value["mood"] in ("glad", "sad") and type(value["size"]) is int and 0 <= value["size"] <= 20
    assert 1 <= len(value["parts"]) <= 3 and all(type(part) is bool for part in value["parts"])


def test_answers_follow_their_schema_even_when_it_is_hot(served: Served) -> None:
    """At a temperature at which the demo model writes noise, every answer is what the schema says."""
    answers = post(served, guided_json=SCHEMA, temperature=2.0, n=16, seed=1).json()["choices"]
    assert len(answers) == 16
    for answer in answers:
        assert answer["finish_reason"] == "stop"
        check_schema(answer["text"])


@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        ({"guided_regex": r"[A-Z][a-z]{2,8}, \d{1,3}"}, r"[A-Z][a-z]{2,8}, \d{1,3}"),
        ({"guided_choice": ["yes", "no", "perhaps, he said"]}, "yes|no|perhaps, he said"),
        ({"guided_grammar": 'start: "(" start ")" | NUMBER\nNUMBER: /[0-9]{1,3}/'}, r"\(*\d{1,3}\)*"),
        ({"grammar": 'root ::= ("a" | "b"){2,4} "!"'}, "[ab]{2,4}!"),
        ({"structured_outputs": {"regex": "[é你]{3}"}}, "[é你]{3}"),
        (
            {"decoding": {"strategy": "beam", "width": 4, "chain": [{"grammar": {"regex": "(cat|dog)s?"}}]}},
            "(cat|dog)s?",
        ),
        ({"decoding": {"chain": [{"grammar": {"choice": ["x", "y"]}}, {"temperature": 2.0}]}}, "[xy]"),
    ],
    ids=str,
)
@pytest.mark.parametrize("route", ["completions", "chat/completions"])
def test_every_kind(served: Served, route: str, fields: dict[str, Any], pattern: str) -> None:
    hot = {} if "decoding" in fields else {"temperature": 1.5, "seed": 3}
    response = post(served, route, **fields, **hot)
    assert response.status_code == 200, response.text
    choice = response.json()["choices"][0]
    text = choice["text"] if route == "completions" else choice["message"]["content"]
    assert choice["finish_reason"] == "stop" and re.fullmatch(pattern, text), text


def test_the_openai_client(served: Served) -> None:
    """`response_format` as OpenAI's own client sends it, whole and streamed."""
    client = OpenAI(base_url=f"{served.url}/v1", api_key="none")
    asked: dict[str, Any] = {
        "model": "demo",
        "messages": [{"role": "user", "content": "How are you?"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "mood", "strict": True, "schema": SCHEMA}},
        "max_tokens": 200,
        "temperature": 1.0,
        "seed": 7,
    }
    whole = client.chat.completions.create(**asked).choices[0].message.content
    check_schema(whole or "")
    stream = client.chat.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == whole


@pytest.fixture(scope="module")
def llm() -> LLM:
    return LLM(EngineConfig(str(DEMO_MODEL), threads=1), TextCodec.load(DEMO_MODEL))


def test_in_process(llm: LLM) -> None:
    """`LLM` keeps grammars as the server does, several in one batch."""
    grammars: list[dict[str, object]] = [
        {"guided_json": SCHEMA, "temperature": 2.0, "n": 4, "seed": 2},
        {"guided_choice": ["left", "right"], "seed": 1},
        {"decoding": {"strategy": "beam", "width": 3, "chain": [{"grammar": {"regex": "[0-9]{3}"}}]}},
    ]
    results = llm.generate(["Once"] * 3, grammars, max_tokens=200, progress=False)
    for answer in results[0].answers:
        check_schema(answer.text)
    assert results[1].answers[0].text in ("left", "right")
    assert re.fullmatch("[0-9]{3}", results[2].answers[0].text)
    alone = llm.generate(["Once"], grammars[0], max_tokens=200, progress=False)
    assert [answer.token_ids for answer in alone[0].answers] == [answer.token_ids for answer in results[0].answers]


def test_in_process_refusals(llm: LLM) -> None:
    """By name, before anything has run; without a tokenizer there are no texts to keep a grammar with."""
    for fields, told in (({"guided_regex": "("}, "invalid regex"), ({"guided_grammar": "start: x"}, "x")):
        with pytest.raises(RequestRefused, match=told):
            llm.generate(["Once"], fields, progress=False)
    with pytest.raises(RequestRefused, match="ignore_eos"):
        llm.generate(["Once"], {"guided_regex": "a"}, ignore_eos=True, progress=False)
    mute = LLM(EngineConfig(str(DEMO_MODEL), threads=1))
    with pytest.raises(RequestRefused, match="no tokenizer") as caught:
        mute.generate([[5]], {"guided_regex": "a"}, progress=False)
    assert caught.value.param == "grammar"


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"guided_regex": "(a"}, "guided_regex", "invalid regex"),
    ({"guided_regex": "a", "ignore_eos": True}, "guided_regex", "ignore_eos"),
    ({"guided_choice": ["a"], "min_tokens": 3}, "guided_choice", "min_tokens"),
    ({"json_schema": {"dependentSchemas": {}}}, "json_schema", "dependentSchemas"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "poem"}}}},
        "response_format.json_schema.schema",
        "poem",
    ),
    ({"grammar": "root ::= nothing"}, "grammar", "nothing"),
    ({"structured_outputs": {"grammar": "start: <|call|>"}}, "structured_outputs.grammar", "<|call|>"),
    ({"guided_json": {"type": "integer", "multipleOf": 123457}}, "guided_json", "multipleOf"),
    ({"decoding": {"chain": [{"grammar": {"lark": "x"}}]}}, "decoding.chain.0.grammar", ""),
]


@pytest.mark.parametrize(("fields", "param", "told"), REFUSED, ids=lambda value: str(value)[:50])
@pytest.mark.parametrize("stream", [False, True])
def test_grammars_that_cannot_be_kept_are_a_400(
    served: Served, fields: dict[str, Any], param: str, told: str, stream: bool
) -> None:
    """What only compiling it tells comes back as a 400 too, in the caller's words, also for a stream."""
    response = post(served, stream=stream, **fields)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param), error
    assert told in error["message"]


async def test_hostile_grammars_hold_nobody_up(served: Served) -> None:
    """While grammars that take a second are refused, an ordinary request is answered, and the server lives on."""
    rules = "\n".join(f"R{i}: R{i + 1} R{i + 1}" for i in range(60))
    async with httpx.AsyncClient(base_url=served.url, timeout=60) as client:
        hostile = [
            client.post(
                "/v1/completions",
                json={"model": "demo", "prompt": "x", "guided_grammar": f'start: R0\n{rules}\nR60: "{i}"'},
            )
            for i in range(4)
        ]
        plain = client.post("/v1/completions", json={"model": "demo", "prompt": "x", "max_tokens": 4})
        *refused, answered = await asyncio.gather(*hostile, plain)
    assert answered.status_code == 200
    for response in refused:
        assert response.status_code == 400 and response.json()["error"]["param"] == "guided_grammar"
    assert post(served, guided_choice=["fine"]).json()["choices"][0]["text"] == "fine"
