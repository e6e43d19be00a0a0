"""Fixtures: a served model's text side, and an app over a fake engine."""

from pathlib import Path

import httpx
import pytest
from fake_engine import FakeEngine, cycling, fake_info
from server_api import MODEL, Api, MakeApi
from small_tokenizers import CHAT_TEMPLATE, byte_level, write_text_folder
from stepping_engine import SteppingEngine, letters_script

from penstock_server.app import create_app
from penstock_server.context import ServerContext
from penstock_server.keys import read_keys
from penstock_server.model import ServedModel
from penstock_server.settings import ServerConfig


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer with a chat template."""
    return write_text_folder(
        tmp_path_factory.mktemp("text"),
        byte_level(),
        chat_template=CHAT_TEMPLATE,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
    )


@pytest.fixture(scope="session")
def served_model(text_folder: Path) -> ServedModel:
    return ServedModel.load(text_folder, [MODEL, "alias"])


@pytest.fixture
def make_api(served_model: ServedModel) -> MakeApi:
    """Makes an `Api`; keyword arguments are fields of `ServerConfig`."""

    def make(model: ServedModel = served_model, max_model_len: int = 256, **config: object) -> Api:
        tokenizer = model.codec.tokenizer
        eos = tokenizer.encode(tokenizer.special_tokens.get("eos_token", "<|im_end|>"), add_special_tokens=False)
        info = fake_info(vocab_size=500, eos_token_ids=(eos[0],), max_model_len=max_model_len)
        engine = FakeEngine(info, cycling(tokenizer.encode(" water")))
        settings = ServerConfig(**config)  # type: ignore[arg-type]  # a test's fields
        context = ServerContext.make(engine, model, settings, keys=read_keys(settings))
        transport = httpx.ASGITransport(create_app(context), raise_app_exceptions=False)
        return Api(engine, context, httpx.AsyncClient(transport=transport, base_url="http://test", timeout=30))

    return make


@pytest.fixture
def api(make_api: MakeApi) -> Api:
    return make_api()


@pytest.fixture
def real(api: Api) -> Api:
    """The app over the real engine with scripted logits; `engine` is not in use."""
    context = ServerContext.make(SteppingEngine(api.engine.info, letters_script), api.context.model, ServerConfig())
    transport = httpx.ASGITransport(create_app(context), raise_app_exceptions=False)
    api.context, api.client = context, httpx.AsyncClient(transport=transport, base_url="http://test", timeout=30)
    return api
