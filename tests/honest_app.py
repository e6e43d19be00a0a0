"""An app over which every field of every route can be seen to work: the real engine on a script, a chat template that
has tools, thoughts and effort, a tokenizer that begins texts with a token and has those of infilling.

A reply is told without what is new each time (ids, times): two of them are equal unless a field made them differ.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from decoding_matrix import END, VOCAB_SIZE, letters_and_ends
from fake_engine import FakeEngine, FakeStream, cycling, fake_info
from numpy.typing import NDArray
from server_api import MODEL, events
from small_tokenizers import byte_level, write_text_folder
from stepping_engine import SteppingEngine, SteppingStream
from tokenizers import processors
from tool_templates import HERMES

from penstock_engine.request import GenerationRequest
from penstock_server.app import create_app
from penstock_server.context import ServerContext
from penstock_server.model import ServedModel
from penstock_server.openapi.bodies import inert, refused
from penstock_server.openapi.document import make_document
from penstock_server.settings import ServerConfig

_OPENING = "{%- if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
TEMPLATE = HERMES.replace(
    _OPENING,
    _OPENING.replace(
        "{% endif %}",
        "{% if reasoning_effort is defined %}effort {{ reasoning_effort }}{% endif %}"
        "{% if enable_thinking is defined and enable_thinking %}<think>\n{% endif %}{% endif %}{# </think> #}",
    ),
)
_NEW_EACH_TIME = {"id", "created", "created_at", "completed_at", "call_id", "item_id"}


@dataclass(frozen=True)
class Reply:
    """What came back, and what the engine was asked for it. `told`: the body, or the events of a stream."""

    status: int
    media_type: str
    told: Any
    requests: list[GenerationRequest] = field(compare=False)

    @property
    def error(self) -> dict[str, Any]:
        """What a 4xx says."""
        assert 400 <= self.status < 500, f"{self.status}: {self.told}"
        return dict(self.told["error"])


def _letters(prefix: Sequence[int]) -> NDArray[np.float32]:
    """The matrix's logits, but that an answer hardly ever ends unless something makes it."""
    logits = letters_and_ends(prefix)
    logits[END] -= 6
    return logits


class _Engine:
    """Embeddings are the fake's, which has hidden states; all else is the script's."""

    def __init__(self, model: ServedModel) -> None:
        self.info = fake_info(vocab_size=VOCAB_SIZE, eos_token_ids=(END,), max_model_len=512)
        self.requests: list[GenerationRequest] = []
        self.failure = None
        self._script = SteppingEngine(self.info, _letters, model.codec.vocabulary(), num_blocks=256)
        self._fake = FakeEngine(self.info, cycling([END]))

    @property
    def stats(self) -> Any:
        return self._script.stats

    async def submit(self, request: GenerationRequest) -> SteppingStream | FakeStream:
        self.requests.append(request)
        is_embedding = request.reading is not None and request.reading.pooling is not None
        return await (self._fake if is_embedding else self._script).submit(request)

    async def close(self, drain_timeout: float = 0.0) -> None:
        await self._script.close()


class HonestApp:
    """One app; what it was asked before it is not asked again."""

    def __init__(self, folder: Path, **config: Any) -> None:
        """`folder`: an empty one, for the model's text side. `config`: fields of `ServerConfig`."""
        tokenizer = byte_level()
        tokenizer.add_special_tokens(["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"])
        beginning = "<|endoftext|>"
        tokenizer.post_processor = processors.TemplateProcessing(
            f"{beginning} $A", None, [(beginning, tokenizer.token_to_id(beginning))]
        )
        write_text_folder(folder, tokenizer, chat_template=TEMPLATE, bos_token=beginning, eos_token="<|im_end|>")
        model = ServedModel.load(folder, [MODEL, "alias"])
        assert model.codec.tokenizer.special_id("<|im_end|>") == END
        self.engine = _Engine(model)
        context = ServerContext.make(self.engine, model, ServerConfig(**config))
        self.document: dict[str, Any] = json.loads(json.dumps(make_document(context)))
        transport = httpx.ASGITransport(create_app(context), raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60)
        self._known: dict[str, Reply] = {}

    async def ask(self, path: str, body: Mapping[str, Any]) -> Reply:
        """The reply to a POST of this body."""
        text = json.dumps(body, sort_keys=True)
        key = path + text
        if key not in self._known:
            num_before = len(self.engine.requests)
            response = await self.client.post(path, content=text, headers={"content-type": "application/json"})
            media_type = response.headers["content-type"].partition(";")[0]
            told = events(response.text) if media_type == "text/event-stream" else response.json()
            assert response.status_code < 500, f"{path}: {text:.300}: {response.text:.300}"
            requests = self.engine.requests[num_before:]
            self._known[key] = Reply(response.status_code, media_type, _without_new(told), requests)
        return self._known[key]

    def bodies(self) -> dict[str, dict[str, Any]]:
        """Route -> the schema of its body, of all that take one."""
        schemas = self.document["components"]["schemas"]
        return {
            path: schemas[operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]]
            for path, methods in self.document["paths"].items()
            for operation in methods.values()
            if "requestBody" in operation
        }


def standing(schema: Mapping[str, Any]) -> str:
    """What the document says that is done with a field: it is `honoured`, `inert`, or `refused`."""
    told = schema.get("description")
    return (
        "inert" if told == inert()["description"] else "refused" if told == refused(())["description"] else "honoured"
    )


def _without_new(told: Any) -> Any:
    if isinstance(told, dict):
        return {name: _without_new(value) for name, value in told.items() if name not in _NEW_EACH_TIME}
    return [_without_new(value) for value in told] if isinstance(told, list | tuple) else told
