"""`stream_options.decoding_events`: the search as events tell it, against replies, the script's logits and itself."""

import json
from typing import Any

import numpy as np
import pytest
from scipy import special
from server_api import Api, events
from stepping_engine import letters_script

from penstock_decoding.params import read_decoding
from penstock_decoding.strategies import STRATEGIES

pytestmark = pytest.mark.anyio

ROUTES = ("complete", "chat")
SEARCHES: list[dict[str, Any]] = [
    {"num_beams": 4, "n": 2},
    {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0, "n": 3, "length_penalty": 2.0},
    {"decoding": {"strategy": "stochastic_beam", "width": 3}},
    {"decoding": {"strategy": "constrained_beam", "width": 4, "words": [[10, 11], [12]]}, "n": 2},
    {"best_of": 3, "n": 2},
    {"n": 3},
    {"temperature": 0, "n": 2},
]
SETTLES_LATE = ("num_beams", "decoding", "best_of")


class Watcher:
    """A client that knows the documentation and keeps what the events of one prompt tell."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}
        self.nodes: dict[int, dict[str, Any]] = {}
        self.live: set[int] = {0}
        self.dropped: set[int] = set()
        self.settled: dict[int, list[int]] = {}
        self.tentative: str | None = None
        self.num_steps = 0

    def read(self, kind: str, data: dict[str, Any]) -> None:
        if kind:
            assert (kind, data["object"]) == ("penstock.decoding", "penstock.decoding")
            self.follow(data)
        for choice in data["choices"]:
            text = choice["text"] if "text" in choice else choice["delta"].get("content", "")
            self.texts[choice["index"]] = self.texts.get(choice["index"], "") + text

    def follow(self, data: dict[str, Any]) -> None:
        """Take in an event; what it says must fit what was said before."""
        self.num_steps += 1
        assert (data["step"], data["prompt"]) == (self.num_steps, 0)
        grown = {node["node"]: node for node in data["nodes"]}
        assert len(grown) == len(data["nodes"]) and not grown.keys() & self.nodes.keys(), "a number is given once"
        assert {node["parent"] for node in data["nodes"]} <= self.live
        dropped = set(data["dropped"])
        assert dropped <= self.nodes.keys() and not dropped & self.dropped, "earlier nodes, each once"
        assert self.live - {0} <= {node["parent"] for node in data["nodes"]} | dropped, "a live node that is forgotten"
        self.nodes |= grown
        self.dropped |= dropped | {number for number, node in grown.items() if node["fate"] == "dropped"}
        self.live = {number for number, node in grown.items() if node["fate"] == "live"}
        for one in data["settled"]:
            assert one["node"] not in self.dropped - dropped
            before = self.settled.setdefault(one["index"], [])
            assert self.nodes[one["node"]]["parent"] == (before[-1] if before else 0), "an answer is one path"
            before.append(one["node"])
        if data["tentative"] is not None:
            assert data["tentative"]["index"] == 0
            assert data["tentative"]["retracted"] == len(self.tentative or "")
        self.tentative = None if data["tentative"] is None else data["tentative"]["text"]

    def path(self, node: int) -> list[int]:
        """The token ids from the prompt to a node."""
        tokens = []
        while node:
            tokens.append(self.nodes[node]["token_id"])
            node = self.nodes[node]["parent"]
        return tokens[::-1]

    def best_path(self) -> list[int]:
        """The tokens of the live hypothesis with the highest score; those of answer 0 when none is live."""
        if not self.live:
            return self.path(self.settled[0][-1])
        return self.path(max(self.live, key=lambda node: float(self.nodes[node]["score"])))


async def streamed(api: Api, route: str, **fields: object) -> list[tuple[str, Any]]:
    response = await getattr(api, route)(stream=True, **fields)
    assert response.status_code == 200, response.text
    return events(response.text)


def without_ids(told: list[tuple[str, Any]]) -> list[Any]:
    """Ordinary chunks, without what differs from request to request."""
    return [{key: data[key] for key in data.keys() - {"id", "created"}} for kind, data in told if not kind]


def test_every_strategy_is_among_the_searches() -> None:
    """A strategy that joins the table joins these tests."""
    asked = [read_decoding(search, vocab_size=500).strategy.name for search in SEARCHES]
    assert set(asked) == set(STRATEGIES)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("search", SEARCHES, ids=json.dumps)
async def test_every_strategy_can_be_watched(real: Api, route: str, search: dict[str, Any]) -> None:
    """The tree is whole, its settled paths are the answers, its tentative text is the best hypothesis', and the
    ordinary chunks are those of a request that is not watched."""
    decode = real.context.model.codec.tokenizer.decode
    fields = {**search, "seed": 2, "max_tokens": 12, "ignore_eos": True}
    told = await streamed(real, route, **fields, stream_options={"decoding_events": True})
    watcher = Watcher()
    for kind, data in told:
        watcher.read(kind, data)
        if kind and watcher.tentative is not None:
            # An unfinished character at the end is not shown yet.
            shown = watcher.texts.get(0, "") + watcher.tentative
            assert shown.rstrip("\ufffd") == decode(watcher.best_path()).rstrip("\ufffd")
    assert without_ids(told) == without_ids(await streamed(real, route, **fields))
    assert watcher.num_steps == 12 and not watcher.live and watcher.tentative in (None, "")
    assert watcher.settled.keys() == watcher.texts.keys()
    for index, text in watcher.texts.items():
        assert decode(watcher.path(watcher.settled[index][-1])) == text
    assert any(data["tentative"] is not None for kind, data in told if kind) == any(
        key in search for key in SETTLES_LATE
    )
    tokens = {node["token_id"]: node["token"] for node in watcher.nodes.values()}
    assert all(label == real.context.model.codec.tokenizer.label(token) for token, label in tokens.items())


@pytest.mark.parametrize("search", SEARCHES, ids=json.dumps)
async def test_scores(real: Api, search: dict[str, Any]) -> None:
    """Each node's score is the log-probability of the tokens up to it, in what the chain leaves of the script."""
    prompt, shaped = [5, 6, 7], {"top_k": 100} | ({} if "temperature" in search else {"temperature": 0.5})
    watcher = Watcher()
    options = {"decoding_events": True}
    for kind, data in await streamed(
        real, "complete", prompt=prompt, max_tokens=6, seed=2, stream_options=options, **search, **shaped
    ):
        watcher.read(kind, data)
    assert len(watcher.nodes) >= 6
    for number, node in watcher.nodes.items():
        before = watcher.path(node["parent"])
        logits = letters_script([*prompt, *before]).astype(np.float64) / shaped.get("temperature", 1.0)
        logits[logits < np.sort(logits)[-100]] = -np.inf
        added = special.log_softmax(logits)[node["token_id"]]
        score = watcher.nodes[node["parent"]]["score"] if node["parent"] else 0.0
        assert node["score"] - score == pytest.approx(added, abs=1e-5), number


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("seed", range(3))
async def test_stop_strings_hold_for_tentative_text(real: Api, route: str, seed: int) -> None:
    """What is shown as tentative never holds a stop string, and once one has ended the answer nothing is."""
    stop = ["a", "K1"]
    watcher, is_over = Watcher(), False
    options = {"decoding_events": True}
    for kind, data in await streamed(
        real, route, num_beams=5, n=2, seed=seed, max_tokens=16, stop=stop, temperature=1.5 + seed / 10,
        stream_options=options,
    ):  # fmt: skip
        watcher.read(kind, data)
        is_over = is_over or any(choice["index"] == 0 and choice["finish_reason"] for choice in data["choices"])
        shown = watcher.texts.get(0, "") + (watcher.tentative or "")
        assert not any(one in shown for one in stop)
        assert not (kind and is_over and watcher.tentative)


async def test_an_answer_that_the_server_ends_is_dropped(real: Api) -> None:
    """The engine hears of a stop string after the step: the answer's last node is dropped in the next one."""
    options = {"decoding_events": True}
    whole = (await real.complete(n=2, seed=3, max_tokens=12, ignore_eos=True)).json()
    texts = [choice["text"] for choice in whole["choices"]]
    stop = next(one for one in texts[0][:4] if one not in texts[1])
    watcher = Watcher()
    told = await streamed(
        real, "complete", n=2, seed=3, max_tokens=12, ignore_eos=True, stop=stop, stream_options=options
    )
    for kind, data in told:
        watcher.read(kind, data)
    assert watcher.texts[0] == texts[0].partition(stop)[0] and watcher.texts[1] == texts[1]
    assert watcher.dropped == {watcher.settled[0][-1]}


async def test_two_prompts(real: Api) -> None:
    """Each prompt has its own tree and its own steps; answers are named as in the reply."""
    told = await streamed(
        real, "complete", prompt=[[5], [6]], num_beams=2, n=2, max_tokens=3, ignore_eos=True, seed=1,
        stream_options={"decoding_events": True},
    )  # fmt: skip
    watched = [data for kind, data in told if kind]
    for prompt in (0, 1):
        own = [data for data in watched if data["prompt"] == prompt]
        assert [data["step"] for data in own] == [1, 2, 3]
        assert {one["index"] for data in own for one in data["settled"]} == {2 * prompt, 2 * prompt + 1}
        assert {data["tentative"]["index"] for data in own} == {2 * prompt}


@pytest.mark.parametrize("route", ROUTES)
async def test_it_goes_with_usage_and_needs_a_stream(real: Api, route: str) -> None:
    options = {"decoding_events": True, "include_usage": True}
    told = await streamed(real, route, num_beams=2, max_tokens=4, stream_options=options)
    assert told[-1][1]["usage"]["completion_tokens"] >= 1 and any(kind for kind, _ in told)
    for fields, param in (
        ({"stream_options": {"decoding_events": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"decoding_events": 1}}, "stream_options.decoding_events"),
    ):
        response = await getattr(real, route)(**fields)
        assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_nobody_else_is_told(real: Api) -> None:
    """Without the option there is no such event."""
    told = await streamed(real, "complete", num_beams=3, max_tokens=6, stream_options={"decoding_events": False})
    assert {kind for kind, _ in told} == {""}
