"""`--lenient`: unknown fields are passed over and told; wrong ones and unsupported ones are refused as ever."""

import pytest
from server_api import MODEL, Api, MakeApi, events

pytestmark = pytest.mark.anyio


async def test_unknown_fields_are_told(make_api: MakeApi) -> None:
    api = make_api(lenient=True)
    for ask in (api.complete, api.chat):
        got = (await ask(tempreature=1, frobnicate={"x": 1}, seed=3)).json()
        assert got["warnings"] == [
            "tempreature: unknown field; did you mean 'temperature'?",
            "frobnicate: unknown field",
        ]
        streamed = events((await ask(tempreature=1, stream=True)).text)
        assert all(len(data["warnings"]) == 1 for _, data in streamed)
        assert "warnings" not in (await ask()).json()


async def test_what_is_known_is_as_strict_as_ever(make_api: MakeApi) -> None:
    api = make_api(lenient=True)
    for fields, param in (
        ({"suffix": "x"}, "suffix"),
        ({"temperature": "x"}, "temperature"),
        ({"decoding": {"strategy": "sample", "widht": 3}}, "decoding.widht"),
        ({"stream": True, "stream_options": {"include_usge": True}}, "stream_options.include_usge"),
    ):
        response = await api.complete(**fields)
        assert response.status_code == 400 and response.json()["error"]["param"] == param


async def test_the_model_entry_tells_what_there_is(api: Api) -> None:
    entry = (await api.client.get(f"/v1/models/{MODEL}")).json()
    told, info = entry["penstock"], api.engine.info
    assert (told["vocab_size"], told["dtype"], told["kernels"]) == (info.vocab_size, info.dtype, info.kernels)
    assert told["limits"]["max_model_len"] == entry["max_model_len"] == 256
    assert told["strategies"]["beam"]["properties"]["width"]["type"] == "integer"
    assert "temperature" in told["processors"] and "temperature" in told["default_chain"]
    assert told["chat"] is True and told["tools"] is None and told["reasoning"] is False
    listed = (await api.client.get("/v1/models")).json()["data"]
    assert [one["id"] for one in listed] == [MODEL, "alias"] and "penstock" not in listed[0]
