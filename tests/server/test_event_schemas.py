"""The events of OpenAI's responses and of Anthropic's messages are of the kinds that the document tells, and all of
those come."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from field_probes import request
from honest_app import HonestApp
from json_schemas import faults
from server_api import MODEL, MakeApi, events

pytestmark = pytest.mark.anyio

THINKING = {"chat_template_kwargs": {"enable_thinking": True}}
NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
ASKED: dict[str, list[dict[str, Any]]] = {
    "/v1/responses": [
        {},
        {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
        THINKING,
        {
            "tools": [{"type": "function", "name": "weather", "parameters": NOTHING}],
            "tool_choice": "required",
            "max_output_tokens": 60,
        },
        {"max_output_tokens": 100, "logit_bias": {"384": 12}},
        {"chain_trace": True, "num_beams": 2},
    ],
    "/v1/messages": [
        {},
        THINKING,
        {"tools": [{"name": "weather", "input_schema": NOTHING}], "tool_choice": {"type": "any"}, "max_tokens": 60},
        {"stop_sequences": ["I", "J", "K"]},
    ],
}
SCHEMAS = {"/v1/responses": "ResponseEvent", "/v1/messages": "AnthropicEvent"}


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[HonestApp]:
    app = HonestApp(tmp_path)
    yield app
    await app.client.aclose()


@pytest.mark.parametrize("path", SCHEMAS)
async def test_every_event_is_described_and_every_kind_comes(app: HonestApp, make_api: MakeApi, path: str) -> None:
    schema = app.document["components"]["schemas"][SCHEMAS[path]]
    found: list[tuple[str, Any]] = []
    for more in ASKED[path]:
        body = request(
            path, {"max_tokens": 60, "stream": True, **more} if path == "/v1/messages" else {"stream": True, **more}
        )
        response = await app.client.post(path, json=body)
        assert response.status_code == 200, response.text
        found += events(response.text)
    api = make_api()
    api.engine.fault = RuntimeError("no more")
    broken = await api.client.post(path, json={**request(path, {}), "model": MODEL, "stream": True})
    found += events(broken.text)
    for kind, data in found:
        assert kind == data["type"]
        assert faults(data, schema, app.document) == [], kind
    described = {kind for each in schema["oneOf"] for kind in kinds(each, app.document)}
    assert {kind for kind, _ in found} == described


def kinds(option: dict[str, Any], document: dict[str, Any]) -> set[str]:
    """The kind that one option of the events is of."""
    if "$ref" in option:
        option = document["components"]["schemas"][option["$ref"].rpartition("/")[2]]
    return {option["properties"]["type"]["const"]}
