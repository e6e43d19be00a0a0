"""HEAD is GET without the body."""

import pytest
from server_api import Api

from penstock_server.middleware.observe import PROCESSING_TIME, REQUEST_ID

pytestmark = pytest.mark.anyio

# Those that no two replies share, and the length, which is that of the body of GET.
_OWN = {REQUEST_ID, PROCESSING_TIME}


@pytest.mark.parametrize("path", ["/health", "/ready", "/v1/models", "/v1/models/test", "/docs", "/unknown"])
async def test_head_is_get_without_the_body(api: Api, path: str) -> None:
    """Monitors ask for a server's health so, and were told that the method is not allowed."""
    got, head = await api.client.get(path), await api.client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert {name: value for name, value in head.headers.items() if name not in _OWN} == {
        name: value for name, value in got.headers.items() if name not in _OWN
    }


async def test_a_route_that_only_takes_post_does_not_take_head(api: Api) -> None:
    head = await api.client.head("/v1/completions")
    assert (head.status_code, head.headers["allow"], head.content) == (405, "POST", b"")
    assert not api.engine.requests
