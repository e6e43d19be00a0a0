"""What the matrix of strategies and options stands on: a script, an app over it that is asked once for each body, and
the distributions that an answer must have been chosen from, computed by applying its chain to the script's logits.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import httpx
import numpy as np
import torch
from decoding_rows import apply_asks
from fake_engine import fake_info
from numpy.typing import NDArray
from scipy import special
from server_api import MODEL, events
from stepping_engine import SteppingEngine

from penstock_decoding.chain import merge_chains
from penstock_decoding.params import Step, read_decoding
from penstock_decoding.processor import Processor, Row
from penstock_decoding.processors import PROCESSORS
from penstock_server.app import create_app
from penstock_server.context import ServerContext
from penstock_server.model import ServedModel
from penstock_server.settings import ServerConfig
from penstock_server.text.chat_template import required

VOCAB_SIZE = 500
END = 384  # <|im_end|>
LETTERS = range(40, 52)  # "I" to "T"
NUM_TOLD = 20
WORD = LETTERS[4]  # "M"
PROMPT = [40, 41, 42, 40, 41, 42, 40, 41]
ASKED: dict[str, Any] = {
    "prompt": PROMPT, "seed": 5, "n": 2, "max_tokens": 8, "logprobs": NUM_TOLD, "processed_logprobs": NUM_TOLD,
}  # fmt: skip

STRATEGIES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sample": {},
    "beam": {"width": 4},
    "constrained_beam": {"width": 4, "words": [[WORD]]},
    "stochastic_beam": {"width": 3},
}


def body(strategy: str, chain: list[dict[str, Any]] | None = None, **fields: Any) -> dict[str, Any]:
    """What is asked of a strategy; None takes a field away, and `params` are further ones of the strategy."""
    decoding = {"strategy": strategy, **STRATEGIES[strategy], **fields.pop("params", {})}
    if chain is not None:
        decoding["chain"] = chain
    whole = {**ASKED, "decoding": decoding, **fields}
    return {name: value for name, value in whole.items() if value is not None}


def letters_and_ends(prefix: Sequence[int]) -> NDArray[np.float32]:
    """Logits that any change of the prefix changes: a dozen likely letters, the end nearly as likely. Ids that the
    tokenizer does not have are out of reach."""
    digest = blake2b(np.asarray(prefix, np.int64).tobytes(), digest_size=8).digest()
    logits = np.random.default_rng(int.from_bytes(digest)).normal(size=VOCAB_SIZE)
    logits[LETTERS.start : LETTERS.stop] += 9
    logits[390:] -= 12
    logits[END] += 9
    return logits.astype(np.float32)


@dataclass(frozen=True)
class Reply:
    """What came back. `json`: the whole reply's body; of a stream, `events` tells all of it."""

    status: int
    json: Any
    events: list[tuple[str, Any]]

    @property
    def choices(self) -> list[dict[str, Any]]:
        assert self.status == 200, self.json
        choices: list[dict[str, Any]] = self.json["choices"]
        return choices

    @property
    def refused_field(self) -> str | None:
        """The field that a 400 names; None if it is none."""
        return str(self.json["error"]["param"]) if self.status == 400 else None


def contents(reply: Reply) -> list[tuple[str, str | None]]:
    """The text and the reason of each answer."""
    return [(choice["text"], choice["finish_reason"]) for choice in reply.choices]


class Matrix:
    """The app over the real engine on the script. A body that was asked before is not asked again."""

    def __init__(self, model: ServedModel) -> None:
        self.codec, self._template = model.codec, model.template
        info = fake_info(vocab_size=VOCAB_SIZE, eos_token_ids=(END,), max_model_len=256)
        self.engine = SteppingEngine(info, letters_and_ends, model.codec.vocabulary(), num_blocks=256)
        context = ServerContext.make(self.engine, model, ServerConfig())
        transport = httpx.ASGITransport(create_app(context), raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://test", timeout=30)
        self._known: dict[str, Reply] = {}
        tokenizer = model.codec.tokenizer
        assert tokenizer.encode("<|im_end|>") == [END]
        self.ids: dict[str, list[int]] = {}
        for token in range(VOCAB_SIZE):
            self.ids.setdefault(tokenizer.label(token), []).append(token)

    async def ask(self, fields: Mapping[str, Any], route: str = "completions") -> Reply:
        """The reply to these fields; only the model is added."""
        body = {"model": MODEL, **fields}
        key = route + json.dumps(body, sort_keys=True)
        if key not in self._known:
            response = await self.client.post(f"/v1/{route}", json=body)
            is_stream = response.headers["content-type"].startswith("text/event-stream")
            told = events(response.text) if is_stream else []
            self._known[key] = Reply(response.status_code, None if is_stream else response.json(), told)
        return self._known[key]

    def chat_prompt(self, messages: list[dict[str, Any]]) -> list[int]:
        """The token ids that the chat template makes of these messages."""
        text = required(self._template).render(messages, add_generation_prompt=True, variables={})
        return self.codec.tokenizer.encode(text, add_special_tokens=False)

    def tokens(self, choice: Mapping[str, Any]) -> list[int]:
        """An answer's token ids, by their labels; several can have the same one, but of those the script likes none."""
        return [self.ids[label][0] for label in choice["logprobs"]["processed_logprobs"]["tokens"]]

    def distributions(self, fields: Mapping[str, Any], tokens: Sequence[int], sample: int) -> NDArray[np.float64]:
        """[tokens, vocab] log-probabilities of what each token of the answer was chosen from.

        `fields`: a body that gives its chain as `decoding.chain`, if it has any, and its prompt in token ids. The chain
        is applied by processors that see this one answer and nothing else.
        """
        stop = [*fields.get("stop_token_ids", ()), *(() if fields.get("ignore_eos") else (END,))]
        chain, seed = self._chain(fields), fields["seed"]
        processors = {step.name: self._processor(step.name) for step in chain}
        rows = []
        for place in range(len(tokens)):
            prefix = [*fields["prompt"], *tokens[:place]]
            # Before the first token all samples share the row of the first one.
            row = Row(0, 0, fields["prompt"], list(tokens[:place]), stop, seed, sample if place else 0)
            scores = torch.from_numpy(letters_and_ends(prefix))[None]
            for stage in merge_chains([(row, chain)]):
                scores = apply_asks(processors[stage.processor], stage.asks, scores)
            rows.append(scores[0].double().numpy())
        return np.asarray(special.log_softmax(np.stack(rows), axis=-1))

    def _chain(self, fields: Mapping[str, Any]) -> tuple[Step, ...]:
        decoding = {"chain": fields["decoding"].get("chain", [])}
        encoder = self.codec.encoder(is_continuation=True)
        return read_decoding({"decoding": decoding}, vocab_size=VOCAB_SIZE, encoder=encoder).chain

    def _processor(self, name: str) -> Processor:
        make = PROCESSORS[name]
        if not getattr(make, "needs_vocabulary", False):
            return make()
        vocabulary = self.codec.vocabulary()
        assert vocabulary is not None
        return make(vocabulary.resized(VOCAB_SIZE))  # type: ignore[call-arg]  # it says so itself


_GROWING = {"text", "logprobs", "chain_trace"}


def joined(told: Sequence[tuple[str, Any]]) -> list[dict[str, Any]]:
    """The choices of a completions stream, as an unstreamed reply has them."""
    whole: dict[int, dict[str, Any]] = {}
    for choice in [dict(choice) for _, data in told for choice in data["choices"]]:
        before = whole.get(choice["index"])
        if before is not None:
            choice |= {key: _added(before[key], choice[key]) for key in _GROWING & choice.keys()}
        whole[choice["index"]] = choice
    return [whole[index] for index in sorted(whole)]


def _added(before: Any, after: Any) -> Any:
    if before is None or after is None:
        return after if before is None else before
    if isinstance(before, dict):
        return {key: _added(before[key], after[key]) for key in before}
    return before + after
