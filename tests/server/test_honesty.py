"""Every field of every route is honoured, refused by name, or told to have no effect. The document that is served says
which, and each of its fields is tried here; one that joins it fails here until it has its probe.
"""

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
from field_probes import BASES, COUNTING, SHORT, WITHOUT_SIGN, Probe, probe, request
from honest_app import HonestApp, Reply, standing
from json_schemas import edges, faults
from other_apis import ANTHROPIC, OPENAI, VLLM

from penstock_server.schemas.fields import DECODING_FIELDS

pytestmark = pytest.mark.anyio

every_route = pytest.mark.parametrize("path", BASES)
generating = pytest.mark.parametrize("path", [path for path in BASES if path not in COUNTING])

# Some of each kind of JSON, to find what a field does not take.
KINDS: tuple[Any, ...] = (True, "~", 7, -7, 0.5, [], [True], {}, {"~": True})
# Fields of the other APIs whose defaults there ask for something else here.
NOT_BY_DEFAULT = {
    "/v1/chat/completions": {"reasoning_effort"},  # only where the chat template knows it
    "/v1/responses": {"store"},  # said back in the reply; a response is stored on request alone
    "/tokenize": {"add_generation_prompt", "continue_final_message"},  # of messages, which stand for a prompt
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[HonestApp]:
    app = HonestApp(tmp_path_factory.mktemp("honest"))
    yield app
    await app.client.aclose()


@pytest.fixture(scope="module")
async def lenient(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[HonestApp]:
    app = HonestApp(tmp_path_factory.mktemp("lenient"), lenient=True)
    yield app
    await app.client.aclose()


def fields(app: HonestApp, path: str, *standings: str) -> dict[str, dict[str, Any]]:
    """The fields of a route's body that stand so, and their schemas."""
    properties = app.bodies()[path]["properties"]
    return {name: schema for name, schema in properties.items() if standing(schema) in standings}


def names(reply: Reply, name: str) -> bool:
    """Whether a reply finds the fault in this field."""
    return reply.status in (400, 404) and str(reply.error["param"]).partition(".")[0] == name


def with_unknown(value: Any) -> list[Any]:
    """The value with a field that nobody knows in it, and in the first of its items; none of what holds no fields."""
    if isinstance(value, dict):
        inside = [{**value, key: each} for key, item in value.items() for each in with_unknown(item)]
        return [{**value, "~": True}, *inside]
    return [[each, *value[1:]] for each in with_unknown(value[0])] if isinstance(value, list) and value else []


async def pair(app: HonestApp, path: str, name: str, asked: Probe) -> tuple[Reply, Reply]:
    """The replies with a field and without it."""
    without = request(path, {**asked.beside, name: asked.instead})
    return await app.ask(path, {**without, **asked.along, name: asked.value}), await app.ask(path, without)


async def test_every_route_and_field_has_its_probe(app: HonestApp) -> None:
    """What joins the document joins this test."""
    assert app.bodies().keys() == BASES.keys()
    missing = [(path, name) for path in BASES for name in fields(app, path, "honoured") if probe(path, name) is None]
    assert missing == []


@generating
async def test_a_field_that_is_honoured_shows_in_the_reply(app: HonestApp, path: str) -> None:
    """The reply with it is another one than that without it. What only says when and where a request runs shows in
    what the engine is asked."""
    wrong: dict[str, str] = {}
    for name in fields(app, path, "honoured"):
        asked = probe(path, name)
        assert asked is not None
        if (path, name) in WITHOUT_SIGN:
            continue
        with_it, without = await pair(app, path, name, asked)
        if (with_it.status, without.status) != (200, 200):
            wrong[name] = f"{with_it.told} after {without.told}"
        elif asked.shows_in_engine:
            one, other = ([dataclasses.replace(each, id="") for each in reply.requests] for reply in (with_it, without))
            if not one or one == other:
                wrong[name] = "changes nothing"
        elif with_it == without:
            wrong[name] = "changes nothing"
    assert not wrong, wrong


@pytest.mark.parametrize("path", COUNTING)
async def test_what_only_counts_says_the_same_of_each_field(app: HonestApp, path: str) -> None:
    """A request that is counted is taken or refused like the request itself; what changes its prompt changes the
    count."""
    counted = COUNTING[path]
    shaping = {"input", "messages", "system", "instructions", "tools", "thinking", "reasoning", "chat_template_kwargs"}
    wrong: dict[str, str] = {}
    for name in fields(app, path, "honoured"):
        asked = probe(path, name)
        assert asked is not None
        with_it, without = await pair(app, path, name, asked)
        itself = await app.ask(counted, request(counted, {**asked.beside, **asked.along, name: asked.value}))
        if with_it.status != itself.status:
            wrong[name] = f"{with_it.status}, not {itself.status}"
        elif name in shaping and with_it == without:
            wrong[name] = "changes nothing"
    assert not wrong, wrong


@every_route
async def test_null_is_a_field_that_is_not_given(app: HonestApp, path: str) -> None:
    base = request(path, SHORT.get(path, {}))
    plain = await app.ask(path, base)
    assert plain.status == 200
    nothing = dict.fromkeys(fields(app, path, "honoured", "inert", "refused"))
    assert await app.ask(path, {**nothing, **base}) == plain
    required = app.bodies()[path].get("required", [])
    for name in base:
        reply = await app.ask(path, {**base, name: None})
        missing = await app.ask(path, {key: value for key, value in base.items() if key != name})
        assert reply.status == missing.status and (reply == missing or name == "seed"), name  # which is chosen then
        if name in required:
            assert names(reply, name) and reply.error["code"] in ("missing_required_parameter", "invalid_type"), name


@generating
async def test_what_a_field_does_not_take_is_refused_by_its_name(app: HonestApp, path: str) -> None:
    """Values of the wrong kind, those beyond its bounds, and those with more in them than there is, as the document
    has them. What it calls right may still
    ask for what this model or this request has not, which is told like any other fault: never by a 5xx."""
    wrong: dict[str, str] = {}
    for name, schema in fields(app, path, "honoured").items():
        asked = probe(path, name)
        assert asked is not None
        beside = request(path, {**SHORT.get(path, {}), **asked.beside, name: asked.instead})
        tried = [*KINDS, *with_unknown(asked.value), *(edge for edge in edges(schema) if len(str(edge)) < 2000)]
        # Decoding fields are handed on by the routes that are translated, to where chat's are read.
        is_handed_on = name in DECODING_FIELDS and path in ("/v1/responses", "/v1/messages")
        for value in KINDS[:2] if is_handed_on else tried:
            reply = await app.ask(path, {**beside, name: value})
            if faults(value, schema, app.document):
                if not names(reply, name):
                    wrong[f"{name} {value!r:.40}"] = str(reply.told)[:160]
            elif reply.status != 200 and (reply.status not in (400, 404) or reply.error["param"] is None):
                wrong[f"{name} {value!r:.40}"] = str(reply.told)[:160]
    assert not wrong, wrong


@every_route
async def test_a_field_without_effect_has_none(app: HonestApp, path: str) -> None:
    base = request(path, SHORT.get(path, {}))
    plain = await app.ask(path, base)
    for value in ("~", 7, {"~": [True]}):
        assert await app.ask(path, {**base, **dict.fromkeys(fields(app, path, "inert"), value)}) == plain


@every_route
async def test_a_field_that_is_not_supported_is_refused_by_name(app: HonestApp, path: str) -> None:
    """Unless it asks for nothing: then it changes nothing."""
    base = request(path, SHORT.get(path, {}))
    plain = await app.ask(path, base)
    for name, schema in fields(app, path, "refused").items():
        for value in KINDS:
            reply = await app.ask(path, {**base, name: value})
            if faults(value, schema, app.document):
                assert names(reply, name) and reply.error["code"] == "unsupported_parameter", f"{name} {value}"
        for value in schema["enum"]:
            assert await app.ask(path, {**base, name: value}) == plain, f"{name} {value}"


@every_route
async def test_an_unknown_field_is_refused_with_the_nearest_name(app: HonestApp, lenient: HonestApp, path: str) -> None:
    """A lenient server answers as if it had not been sent, and tells so."""
    known = sorted(fields(app, path, "honoured", "inert", "refused"), key=len)[-1]
    for name, told in (
        (known[:-1] + "_", f"{known[:-1]}_: unknown field; did you mean {known!r}?"),
        ("~", "~: unknown field"),
    ):
        body = request(path, {name: 1})
        error = (await app.ask(path, body)).error
        assert (error["param"], error["code"], error["message"]) == (name, "unknown_parameter", told)
        taken = await lenient.ask(path, body)
        assert taken.status == 200, taken.told
        assert taken.told["warnings"] == [told]
        plain = await lenient.ask(path, request(path, {}))
        assert {key: value for key, value in taken.told.items() if key != "warnings"} == plain.told


@pytest.mark.parametrize(
    ("api", "path"),
    [(api, path) for api, routes in (("openai", OPENAI), ("vllm", VLLM), ("anthropic", ANTHROPIC)) for path in routes],
)
async def test_clients_of_other_servers_are_known(app: HonestApp, api: str, path: str) -> None:
    """Every field that another API has on a route is known to it here, if only to be refused by name; and a client that
    writes all of them, at their defaults there, is served as if it had written none."""
    theirs = {"openai": OPENAI, "vllm": VLLM, "anthropic": ANTHROPIC}[api][path]
    assert theirs.keys() - app.bodies()[path]["properties"].keys() == set()
    base = request(path, SHORT.get(path, {}))
    plain = await app.ask(path, base)
    defaults = {
        name: value for name, value in theirs.items() if name not in {*NOT_BY_DEFAULT.get(path, ()), *BASES[path]}
    }
    assert await app.ask(path, {**defaults, **base}) == plain
