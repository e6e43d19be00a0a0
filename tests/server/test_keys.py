"""With a key set, every route but /health and /ready asks for it; also those that do not exist."""

import hmac
import inspect
from pathlib import Path

import pytest
from server_api import Api, MakeApi
from starlette.routing import Route

from penstock_server.app import create_app
from penstock_server.keys import read_keys
from penstock_server.middleware import require_key
from penstock_server.settings import ServerConfig, SettingsError

pytestmark = pytest.mark.anyio


def routes(api: Api) -> list[tuple[str, str]]:
    """Every (method, path) that the app answers, whoever added it."""
    found = []
    waiting = list(create_app(api.context).routes)
    while waiting:
        route = waiting.pop()
        if isinstance(route, Route):
            found += [(method, route.path.replace("{name:path}", "x")) for method in route.methods or ()]
        else:  # an included router, as FastAPI keeps it
            waiting += route.original_router.routes  # type: ignore[attr-defined]  # a private class of FastAPI's
    return found


async def test_all_routes(make_api: MakeApi) -> None:
    api = make_api(api_key=("one", "two"))
    listed = routes(api)
    assert {path for _, path in listed} >= {
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/models",
        "/tokenize",
        "/metrics",
        "/health",
    }
    for method, path in [*listed, ("GET", "/unknown"), ("GET", "/docs")]:
        response = await api.client.request(method, path)
        if path in ("/health", "/ready"):
            assert response.status_code == 200
        else:
            assert response.status_code == 401, (method, path)
            if method != "HEAD":
                assert response.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("key", ["one", "two"])
async def test_any_of_the_keys_opens(make_api: MakeApi, key: str) -> None:
    api = make_api(api_key=("one", "two"))
    for header in (f"Bearer {key}", f"bearer {key}"):
        assert (await api.client.get("/v1/models", headers={"Authorization": header})).status_code == 200


@pytest.mark.parametrize("header", ["", "one", "Basic one", "Bearer", "Bearer on", "Bearer onee", "Bearer één"])
async def test_anything_else_does_not(make_api: MakeApi, header: str) -> None:
    api = make_api(api_key=("one",))
    response = await api.client.get("/v1/models", headers=[(b"Authorization", header.encode())])
    assert response.status_code == 401


async def test_no_key_set_asks_for_none(api: Api) -> None:
    assert (await api.client.get("/v1/models")).status_code == 200


def test_keys_are_compared_in_constant_time() -> None:
    source = inspect.getsource(require_key.RequireKey._is_known)
    assert hmac.compare_digest.__name__ in source and "== key" not in source


async def test_keys_of_a_file_open_too(make_api: MakeApi, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# who: Ann\ntwo\n\n  three  \none\n")
    api = make_api(api_key=("one",), api_key_file=str(file))
    assert api.context.keys == ("one", "two", "three")
    for key, status in (("one", 200), ("two", 200), ("three", 200), ("# who: Ann", 401), ("", 401)):
        response = await api.client.get("/v1/models", headers={"Authorization": f"Bearer {key}"})
        assert response.status_code == status, key


def test_a_file_without_keys_does_not_open_the_server(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    with pytest.raises(SettingsError, match=r"api_key_file: cannot read .*: No such file"):
        read_keys(ServerConfig(api_key_file=str(file)))
    for content in (b"", b"# later\n\n"):
        file.write_bytes(content)
        with pytest.raises(SettingsError, match="holds no key"):
            read_keys(ServerConfig(api_key=("one",), api_key_file=str(file)))
    file.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="not UTF-8"):
        read_keys(ServerConfig(api_key_file=str(file)))
