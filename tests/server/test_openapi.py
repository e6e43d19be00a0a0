"""The OpenAPI document tells what the server does, no more and no less; its page shows all of it."""

import dataclasses
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from json_schemas import edges, faults, resolved
from real_server import serving
from server_api import MODEL, Api, MakeApi, events
from small_tokenizers import byte_level, write_text_folder
from tool_templates import HERMES

from penstock_decoding.catalogue import SHIPPED
from penstock_server.app import ROUTERS
from penstock_server.model import ServedModel
from penstock_server.openapi.document import make_document
from penstock_server.openapi.page import render_page
from penstock_server.schemas import anthropic, embeddings, responses, text, unsupported
from penstock_server.schemas.chat import ChatBody
from penstock_server.schemas.completion import CompletionBody
from penstock_server.schemas.embeddings import EmbeddingsBody
from penstock_server.schemas.score import ELSEWHERE as OTHERS_SCORES
from penstock_server.schemas.score import ScoreBody
from penstock_server.schemas.text import DetokenizeBody, TemplateBody, TokenizeBody

pytestmark = pytest.mark.anyio


@pytest.fixture
def document(api: Api) -> dict[str, Any]:
    return make_document(api.context)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_every_route_is_described_and_no_other(document: dict[str, Any], api: Api) -> None:
    routes: list[Any] = [route for make_router in ROUTERS for route in make_router(api.context).routes]
    served = {(method, route.path.replace(":path", "")) for route in routes for method in route.methods - {"HEAD"}}
    assert {(method, path) for method, path, _ in operations(document)} == served


def test_every_field_is_described_and_no_other(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    inert = unsupported.INERT
    messages = {*anthropic.NAMES, *anthropic.SAME, *anthropic.OWN, *anthropic.INERT, *anthropic.REFUSED}
    assert {name: set(schema["properties"]) for name, schema in schemas.items() if name.endswith("Request")} == {
        "CompletionRequest": {*CompletionBody.model_fields, *unsupported.COMPLETION, *inert},
        "ChatRequest": {*ChatBody.model_fields, *unsupported.CHAT, *inert},
        "ScoreRequest": {*ScoreBody.model_fields, *OTHERS_SCORES, *inert},
        "EmbeddingsRequest": {*EmbeddingsBody.model_fields, *embeddings.REFUSED, *inert},
        "TokenizeRequest": {*TokenizeBody.model_fields, *text.REFUSED},
        "DetokenizeRequest": set(DetokenizeBody.model_fields),
        "TemplateRequest": {*TemplateBody.model_fields, *text.REFUSED},
        "ResponsesRequest": {*responses.KNOWN, *responses.REFUSED, *inert},
        "MessagesRequest": messages,
        "CountTokensRequest": messages,
    }
    for name, schema in schemas.items():
        if name.endswith("Request"):
            assert [field for field, each in schema["properties"].items() if not each.get("description")] == []
            told = [field for field, each in schema["properties"].items() if each.keys() == {"description"}]
            assert set(told) <= {*inert, *anthropic.INERT}, "a field that may be anything tells nothing"


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for each in value.values():
                yield from walk(each)
        elif isinstance(value, list):
            for each in value:
                yield from walk(each)

    references = set(walk(document))
    assert all(resolved({"$ref": reference}, document) for reference in references)
    named = {reference.removeprefix("#/components/schemas/") for reference in references}
    assert document["components"]["schemas"].keys() <= named, "a schema that nothing names"
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)


# What a field needs beside it to ask for anything.
BESIDE: dict[str, dict[str, Any]] = {
    "dynatemp_exponent": {"dynatemp_range": 0.5},
    "mirostat_tau": {"mirostat": 2},
    "mirostat_eta": {"mirostat": 2},
    "xtc_threshold": {"xtc_probability": 0.5},
    **{
        f"dry_{name}": {"dry_multiplier": 1}
        for name in ("base", "allowed_length", "penalty_last_n", "sequence_breakers")
    },
    "num_beam_groups": {"num_beams": 2},
    "diversity_penalty": {"num_beams": 2, "num_beam_groups": 2},
    "length_penalty": {"num_beams": 2},
    "temperature": {"top_k": 40},
}
# Bounds that lie in what other fields, the prompt or the server's rows allow: only their far side is tried.
ELSEWHERE = {"num_beams", "num_beam_groups", "best_of", "n", "min_tokens", "max_tokens", "bad_words"}
# Long to send, and tried where they are read.
LONG = {"allowed_token_ids", "allowed_sequences", "allowed_texts", "guided_regex", "guided_grammar", "grammar"}


async def test_a_field_is_taken_on_the_right_side_of_its_bounds_only(document: dict[str, Any], api: Api) -> None:
    fields = document["components"]["schemas"]["CompletionRequest"]["properties"]
    num_refused = num_taken = 0
    for name, schema in fields.items():
        for value in edges(schema) if name not in LONG else ():
            beside = {**BESIDE.get(name, {}), "max_tokens": 2}
            response = await api.complete(**{**beside, name: value})
            if faults(value, schema, document):
                error = response.json()["error"]
                assert response.status_code == 400, f"{name}: {value!r:.80} is taken"
                assert error["param"].startswith(name), f"{name}: {value!r:.80}: {error}"
                num_refused += 1
            elif name not in ELSEWHERE:
                assert response.status_code == 200, f"{name}: {value!r:.80}: {response.text}"
                num_taken += 1
    assert num_refused > 50 and num_taken > 80


async def test_a_default_is_what_a_field_is_without(document: dict[str, Any], api: Api) -> None:
    for schema, path, beside in (
        ("CompletionRequest", "/v1/completions", {"prompt": "Hello"}),
        ("ChatRequest", "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}]}),
    ):
        fields = document["components"]["schemas"][schema]["properties"]
        defaults = {name: each["default"] for name, each in fields.items() if "default" in each}
        body = {"model": MODEL, "seed": 1, **beside, "max_tokens": 16}
        assert len(defaults) > 40
        replies = [await api.client.post(path, json=fields) for fields in (body, {**defaults, **body})]
        assert [reply.status_code for reply in replies] == [200, 200], replies[1].text
        one, other = (dataclasses.replace(request, id="") for request in api.engine.requests[-2:])
        assert one == other


def test_limits_are_those_of_the_server(make_api: MakeApi) -> None:
    document = make_document(make_api(max_n=4, max_logprobs=7).context)
    schemas = document["components"]["schemas"]
    assert schemas["CompletionRequest"]["properties"]["n"]["maximum"] == 4
    assert schemas["CompletionRequest"]["properties"]["logprobs"]["maximum"] == 7
    assert schemas["ChatRequest"]["properties"]["model"]["enum"] == [MODEL, "alias"]
    assert schemas["Strategy_sample"]["properties"]["best_of"]["maximum"] == 4
    assert schemas["ChatRequest"]["additionalProperties"] is False
    lenient = make_document(make_api(lenient=True).context)["components"]["schemas"]
    assert lenient["ChatRequest"]["additionalProperties"] is True


def test_plugins_are_described(api: Api) -> None:
    @dataclasses.dataclass(frozen=True)
    class Params:
        """`strength`: how strong."""

        strength: float = dataclasses.field(metadata={"minimum": 0, "help": object()})

    plugin = type("Soften", (), {"name": "soften", "Params": Params})
    catalogue = dataclasses.replace(SHIPPED, processors={**SHIPPED.processors, "soften": plugin})
    document = make_document(dataclasses.replace(api.context, catalogue=catalogue))
    schemas = json.loads(json.dumps(document))["components"]["schemas"]
    assert {"$ref": "#/components/schemas/Processor_soften"} in schemas["Chain"]["items"]["oneOf"]
    decoding = {"chain": [{"soften": {"strength": 0.5}}, {"top_k": 40}]}
    assert faults(decoding, schemas["Decoding"], document) == []
    assert faults({"chain": [{"soften": -0.5}]}, schemas["Decoding"], document) != []


@pytest.mark.parametrize(
    ("decoding", "is_right"),
    [
        ({}, True),
        ({"strategy": "beam", "width": 4}, True),
        ({"strategy": "beam"}, False),
        ({"strategy": "bean", "width": 4}, False),
        ({"strategy": "beam", "width": 4, "seed": 1}, False),
        ({"chain": [{"top_k": 40}, {"penalties": {"repetition": 1.1}}, {"logit_bias": {"3": -1}}]}, True),
        ({"chain": [{"top_k": {"count": 40}}]}, True),
        ({"chain": [{"top_k": 40, "top_p": 0.5}]}, False),
        ({"chain": [{"penalties": 1.1}]}, False),
        ({"chain": [{"logit_bias": {"x": 1}}]}, False),
        ({"chain": [{"top_p": 0}]}, False),
        ({"chain": None}, False),
        ({"n": 3}, True),
        ({"n": 0}, False),
    ],
)
async def test_decoding_is_described(
    document: dict[str, Any], api: Api, decoding: dict[str, Any], is_right: bool
) -> None:
    schema = document["components"]["schemas"]["CompletionRequest"]["properties"]["decoding"]
    assert (not faults(decoding, schema, document)) is is_right
    assert (await api.complete(decoding=decoding, max_tokens=2)).status_code == (200 if is_right else 400)


async def test_both_are_served_and_ask_for_the_key(make_api: MakeApi) -> None:
    api = make_api(api_key=("secret",))
    for path in ("/docs", "/openapi.json"):
        assert (await api.client.get(path)).status_code == 401
    given = {"Authorization": "Bearer secret"}
    document = (await api.client.get("/openapi.json", headers=given)).json()
    assert document["security"] == [{"bearer": []}, {"x-api-key": []}]
    open_paths = {path for _, path, operation in operations(document) if operation.get("security") == []}
    assert open_paths == {"/health", "/ready"}
    page = await api.client.get("/docs", headers=given)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


class Page(HTMLParser):
    """What the page has: anchors, links, and elements that load something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: set[str] = set()
        self.loads: list[str] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag not in ("meta", "!doctype"):
            self._open.append(tag)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if "href" in given:
            self.links.add(str(given["href"]))
        self.loads += [tag for name in given if name in ("src", "srcset", "data", "action")]
        if tag in ("link", "iframe", "object", "embed", "img"):
            self.loads.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("script", "style"):
            self.words += data


def test_the_page_shows_all_of_it_and_loads_nothing(document: dict[str, Any]) -> None:
    text = render_page(document)
    page = Page(text)
    assert page.loads == [] and not re.search(r"@import|url\(|fetch\(|import\(", text)
    assert len(set(page.ids)) == len(page.ids)
    assert {link for link in page.links if link.removeprefix("#") not in page.ids} == {"openapi.json"}
    for _, path, operation in operations(document):
        assert path in page.words and operation["summary"].replace("`", "") in page.words
    for name, schema in document["components"]["schemas"].items():
        assert name in page.ids
        for field, each in schema.get("properties", {}).items():
            assert field in page.words
            assert each.get("description", "").replace("`", "") in page.words


def test_an_example_can_be_copied(document: dict[str, Any]) -> None:
    page = Page(render_page(document))
    bodies = re.findall(r"-d '(\{.*?\n\})'", page.words, re.DOTALL)
    shown = [json.loads(body) for body in bodies]
    media = [
        operation["requestBody"]["content"]["application/json"]
        for _, _, operation in operations(document)
        if "requestBody" in operation
    ]
    assert shown == [each["value"] for one in media for each in one.get("examples", {}).values()]
    assert len(shown) > 20


def conforming(document: dict[str, Any], operation: dict[str, Any], response: httpx.Response) -> None:
    """The reply is what the document says; of a stream, every event."""
    told = operation["responses"][str(response.status_code)]["content"]
    media_type = response.headers["content-type"].partition(";")[0]
    if media_type == "application/json":
        assert faults(response.json(), told[media_type]["schema"], document) == []
        return
    assert media_type == "text/event-stream"
    found = events(response.text)
    assert found
    kinds = {
        each["properties"].get("event", {}).get("const", ""): each["properties"]["data"].get("contentSchema")
        for each in reversed(told[media_type]["schema"]["anyOf"])
    }
    for kind, data in found:
        assert faults(data, kinds.get(kind, kinds[""]), document) == []


def test_every_example_is_answered_as_described() -> None:
    """By the demo model, on a real server."""
    num_tried = 0
    with serving("demo") as served, httpx.Client(base_url=served.url, timeout=60) as client:
        document = client.get("/openapi.json").json()
        for method, path, operation in operations(document):
            content = operation.get("requestBody", {}).get("content", {})
            for name, example in content.get("application/json", {}).get("examples", {}).items():
                body = example["value"]
                assert faults(body, content["application/json"]["schema"], document) == [], name
                response = client.request(method, path, json=body)
                assert response.status_code == 200, f"{path}: {name}: {response.text}"
                conforming(document, operation, response)
                num_tried += 1
        for path in ("/health", "/ready", "/version", "/v1/models", "/v1/models/demo", "/openapi.json"):
            response = client.get(path)
            conforming(document, document["paths"][path.replace("/demo", "/{name}")]["get"], response)
    assert num_tried > 20


async def test_replies_with_all_that_can_be_told(document: dict[str, Any], real: Api) -> None:
    told = {"processed_logprobs": 2, "chain_trace": True, "return_token_ids": True, "temperature": 0.7, "max_tokens": 3}
    paths = document["paths"]
    for search in ({}, {"num_beams": 2}, {"decoding": {"strategy": "stochastic_beam", "width": 2}}):
        for more in ({}, {"stream": True, "stream_options": {"include_usage": True, "decoding_events": True}}):
            asked = {**told, **search, **more}
            completion = await real.complete(**asked, logprobs=1)
            chat = await real.chat(**asked, logprobs=True, top_logprobs=1)
            assert completion.status_code == chat.status_code == 200, completion.text + chat.text
            conforming(document, paths["/v1/completions"]["post"], completion)
            conforming(document, paths["/v1/chat/completions"]["post"], chat)


async def test_errors_are_as_described(document: dict[str, Any], api: Api) -> None:
    for method, path, operation in operations(document):
        if "requestBody" in operation:
            for body, status in (({"model": "other"}, (400, 404)), ({"modell": "x"}, (400,))):
                response = await api.client.request(method, path, json=body)
                assert response.status_code in status
                conforming(document, operation, response)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "Hello"}]}, "decoding.strategy"),
        ("/v1/responses/input_tokens", {"input": "Hello"}, "decoding.strategy"),
    ],
)
async def test_what_is_only_counted_is_checked_too(api: Api, path: str, body: dict[str, Any], param: str) -> None:
    """Counting looked at the messages alone and took decoding fields that the same request is refused for."""
    assert (await api.client.post(path, json={"model": MODEL, **body})).status_code == 200
    refused = await api.client.post(path, json={"model": MODEL, **body, "decoding": {"strategy": "bean"}})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == param
    assert (await api.client.post(path, json={"model": "other", **body})).status_code == 404


@pytest.mark.parametrize("calls", [{}, "", False, 0])
async def test_calls_that_are_no_list_are_refused(api: Api, calls: object) -> None:
    """What is empty was taken for no calls, whatever it was."""
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "", "tool_calls": calls}]
    response = await api.client.post("/apply_template", json={"messages": messages})
    assert response.status_code == 400 and response.json()["error"]["param"] == "messages.1.tool_calls"


def test_tools_have_examples_where_the_model_has_tools(api: Api, make_api: MakeApi, tmp_path: Path) -> None:
    def shown(api: Api, path: str) -> set[str]:
        content = make_document(api.context)["paths"][path]["post"]["requestBody"]["content"]
        return set(content["application/json"].get("examples", ()))

    template = dict(chat_template=HERMES, bos_token="<|endoftext|>", eos_token="<|im_end|>")
    folder = write_text_folder(tmp_path, byte_level(), **template)
    with_tools = make_api(ServedModel.load(folder, [MODEL]), max_model_len=2048)
    for path in ("/v1/chat/completions", "/v1/responses", "/v1/messages"):
        assert shown(with_tools, path) == shown(api, path) | {"a-function-to-call"}
