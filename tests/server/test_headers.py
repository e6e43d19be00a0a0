"""What every reply carries: the request's id, the time it took; and whom a browser lets read it."""

import logging
import re

import pytest
from server_api import Api, MakeApi

pytestmark = pytest.mark.anyio


async def test_ids_come_back_and_are_made(api: Api) -> None:
    given = (await api.client.get("/v1/models", headers={"X-Request-Id": "my-id:1"})).headers["x-request-id"]
    assert given == "my-id:1"
    for path in ("/v1/models", "/nowhere", "/health"):
        made = [(await api.client.get(path)).headers["x-request-id"] for _ in range(2)]
        assert all(re.fullmatch("req-[0-9a-f]{32}", one) for one in made) and made[0] != made[1]


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\tb", "\u00e9", "../../etc/passwd\x7f", "a;b"])
async def test_an_id_that_does_not_fit_a_log_is_replaced(api: Api, given: str) -> None:
    response = await api.client.get("/v1/models", headers=[(b"X-Request-Id", given.encode())])
    assert response.headers["x-request-id"].startswith("req-")


async def test_the_id_stands_in_the_log(make_api: MakeApi, caplog: pytest.LogCaptureFixture) -> None:
    api = make_api(log_requests=True)
    with caplog.at_level(logging.INFO, "penstock.requests"):
        await api.client.get("/v1/models", headers={"X-Request-Id": "find-me"})
    assert "find-me" in caplog.text


async def test_processing_time(api: Api) -> None:
    for response in (await api.complete(), await api.complete(stream=True), await api.complete(n="x")):
        assert int(response.headers["openai-processing-ms"]) >= 0


ORIGIN = {"Origin": "https://chat.example"}
ASKING = ORIGIN | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


async def test_no_origin_may_ask_by_default(api: Api) -> None:
    response = await api.client.get("/v1/models", headers=ORIGIN)
    assert response.status_code == 200 and "access-control-allow-origin" not in response.headers
    assert (await api.client.options("/v1/completions", headers=ASKING)).status_code == 405


@pytest.mark.parametrize("allowed", ["https://chat.example", "*"])
async def test_allowed_origins(make_api: MakeApi, allowed: str) -> None:
    api = make_api(allow_origin=(allowed,), api_key=("secret",))
    asked = await api.client.options("/v1/completions", headers=ASKING)
    assert asked.status_code == 200 and asked.headers["access-control-allow-origin"] == allowed
    assert "authorization" in asked.headers["access-control-allow-headers"].lower()
    refused = await api.client.get("/v1/models", headers=ORIGIN)
    assert refused.status_code == 401 and refused.headers["access-control-allow-origin"] == allowed
    answered = await api.client.get("/v1/models", headers=ORIGIN | {"Authorization": "Bearer secret"})
    assert answered.status_code == 200 and "x-request-id" in answered.headers["access-control-expose-headers"]


async def test_other_origins(make_api: MakeApi) -> None:
    api = make_api(allow_origin=("https://chat.example",))
    elsewhere = {"Origin": "https://evil.example"}
    assert "access-control-allow-origin" not in (await api.client.get("/v1/models", headers=elsewhere)).headers
    assert (await api.client.options("/v1/completions", headers=ASKING | elsewhere)).status_code == 400
