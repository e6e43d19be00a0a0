"""What only the engine can refuse of a chain's step is told where the body asked for it."""

from typing import Any

import pytest
from server_api import Api

pytestmark = pytest.mark.anyio

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"allowed_texts": ["water"]}, "allowed_texts"),
    ({"allowed_sequences": [[5, 6]], "temperature": 0.5}, "allowed_sequences"),
    ({"guided_regex": "a+"}, "guided_regex"),
    ({"response_format": {"type": "json_object"}, "allowed_texts": ["{}"]}, "response_format"),
    ({"decoding": {"chain": [{"temperature": 0.5}, {"force_end": 3}]}}, "decoding.chain.1.force_end"),
    ({"decoding": {"chain": [{"allowed_sequences": {"texts": ["water"]}}]}}, "decoding.chain.0.allowed_sequences"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=lambda value: str(value)[:40])
async def test_a_step_that_needs_a_stop_token_is_named_as_it_was_asked_for(
    real: Api, fields: dict[str, Any], param: str
) -> None:
    """Was `allowed_sequences.sequences` and `force_end.after`, which are no paths into the body."""
    response = await real.complete(ignore_eos=True, **fields)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param), error
    assert error["message"].startswith(f"{param}: ")
