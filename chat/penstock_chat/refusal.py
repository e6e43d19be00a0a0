"""An HTTP response with an error status as a sentence: what the server said, and what helps."""

import json

import httpx2

from penstock_chat.chunks import error_message
from penstock_chat.endpoint import Endpoint
from penstock_chat.errors import Broken, Refused

MAX_ERROR_BYTES = 65536


async def refusal_of(response: httpx2.Response, endpoint: Endpoint) -> Refused | None:
    """None for a 200."""
    status = response.status_code
    if status == 200:
        return None
    where = endpoint.shown(str(response.url))
    if 300 <= status < 400:
        target = response.headers.get("location", "elsewhere")
        return Refused(f"{where} leads to {target}; give that server with --url", status)
    raw = await read_bounded(response, MAX_ERROR_BYTES, is_cut=True)
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        body = None
    said = error_message(body)
    param = _param(body)
    if status in (401, 403):
        help_text = (
            "the server does not accept the key"
            if endpoint.key
            else "the server asks for a key: --api-key, or the variable PENSTOCK_API_KEY"
        )
        return Refused(f"{help_text} ({status}{f': {said}' if said else ''})", status, param)
    if status == 429:
        wait = response.headers.get("retry-after")
        when = f"; it asks to wait {wait}{' s' if wait.isdigit() else ''}" if wait else ""
        return Refused(f"the server is busy (429{f': {said}' if said else ''}){when}", status, param)
    if said is None:
        hint = "; is --url right?" if status in (404, 405) else ""
        return Refused(f"the server answered {where} with {status} {response.reason_phrase}{hint}", status)
    return Refused(f"the server refused ({status}): {said}", status, param)


async def read_bounded(response: httpx2.Response, max_bytes: int, *, is_cut: bool = False) -> bytes:
    """The body, cut at `max_bytes` or refused beyond it.

    Raises:
        Broken: it is longer.
    """
    parts: list[bytes] = []
    num_bytes = 0
    async for part in response.aiter_bytes():
        parts.append(part)
        num_bytes += len(part)
        if num_bytes > max_bytes:
            if is_cut:
                break
            raise Broken(f"the server answers with more than {max_bytes} bytes")
    return b"".join(parts)[:max_bytes]


def _param(body: object) -> str | None:
    error = body.get("error") if isinstance(body, dict) else None
    param = error.get("param") if isinstance(error, dict) else None
    return param if isinstance(param, str) else None
