"""A server started with plug-ins: what they do reaches a client, what they do wrong reaches only whoever asked."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from real_server import WAIT_SECONDS, Served, serving

from penstock_engine.config import EngineConfig
from penstock_engine.llm import LLM
from penstock_server.serve import DEMO_MODEL
from penstock_server.text.codec import TextCodec

PLUGIN = '''
"""A processor that forces one token, until it breaks; a strategy that breaks at once."""

import sys
from dataclasses import dataclass
from penstock_decoding.errors import ParameterError
from penstock_decoding.strategies.sample import Sample

@dataclass(frozen=True, slots=True)
class ForceParams:
    token: int
    breaks_at: int = -1

    def __post_init__(self):
        if self.token < 0:
            raise ParameterError("token", "must be at least 0")
        if self.token == 999 or (self.token == 998 and "torch" in sys.modules):
            raise RuntimeError("a detail for the log")

class Force:
    name = "force"
    Params = ForceParams

    def plan(self, asks):
        if any(len(ask.row.output) == ask.params.breaks_at for ask in asks):
            raise RuntimeError("a detail for the log")
        return Plan([(ask.row.index, ask.params.token) for ask in asks])

class Plan:
    def __init__(self, rows):
        self.rows = rows

    def apply(self, scores):
        for row, token in self.rows:
            score = scores[row, token].clone()
            scores[row] = float("-inf")
            scores[row, token] = score

@dataclass(frozen=True, slots=True)
class BrokenParams:
    n: int = 1

class Broken(Sample):
    name = "broken"
    Params = BrokenParams

    def __init__(self, params):
        raise RuntimeError("a detail for the log")
'''


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("plugin") / "mine.py"
    file.write_text(PLUGIN)
    return str(file)


@pytest.fixture(scope="module")
def served(plugin: str) -> Iterator[Served]:
    with serving("demo", "--plugin", plugin) as served:
        yield served


def ask(served: Served, **fields: object) -> httpx.Response:
    body = {"model": "demo", "prompt": "Once upon a time", "max_tokens": 12, **fields}
    return httpx.post(f"{served.url}/v1/completions", json=body, timeout=WAIT_SECONDS)


def chain(token: int = 5, breaks_at: int = -1) -> dict[str, object]:
    return {"chain": [{"force": {"token": token, "breaks_at": breaks_at}}, {"temperature": 0.5}]}


def error_of(reply: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = reply.json()["error"]
    return error


def test_start_tells_of_them(served: Served) -> None:
    assert any("plug-ins" in line and "broken, force" in line for line in "".join(served.log).splitlines())


def test_it_shapes_the_answer(served: Served) -> None:
    codec = TextCodec.load(DEMO_MODEL)
    (token,) = codec.tokenizer.encode(" fox", add_special_tokens=False)
    choice = ask(served, decoding=chain(token)).json()["choices"][0]
    assert choice["text"] == " fox" * 12


def test_llm_gives_what_the_server_gives(served: Served, plugin: str) -> None:
    fields = {"decoding": {"chain": [{"force": 7}]}, "seed": 1}
    codec = TextCodec.load(DEMO_MODEL)
    for llm in (
        LLM(EngineConfig(model=str(DEMO_MODEL), plugin=(plugin,)), codec),
        LLM(EngineConfig(model=str(DEMO_MODEL)), codec, plugins=[f"{plugin}:Force"]),
    ):
        (result,) = llm.generate(["Once upon a time"], fields, max_tokens=12, progress=False)
        assert result.answers[0].token_ids == [7] * 12
        assert result.answers[0].text == ask(served, **fields).json()["choices"][0]["text"]


@pytest.mark.parametrize(
    ("decoding", "param", "told"),
    [
        ({"chain": [{"force": {"token": -1}}]}, "decoding.chain.0.force.token", "must be at least 0"),
        ({"chain": [{"forse": 1}]}, "decoding.chain.0.forse", "did you mean 'force'?"),
        ({"strategy": "brokn"}, "decoding.strategy", "did you mean 'broken'?"),
    ],
)
def test_bad_parameters_are_400s(served: Served, decoding: dict[str, object], param: str, told: str) -> None:
    reply = ask(served, decoding=decoding)
    assert (reply.status_code, error_of(reply)["param"]) == (400, param)
    assert told in error_of(reply)["message"]


def test_what_breaks_fails_alone(served: Served) -> None:
    """Beside it run requests of every kind, one of them with the same plug-in; all get what they get alone."""
    well: list[dict[str, object]] = [
        {"temperature": 0},
        {"temperature": 0.9, "seed": 4, "n": 3, "top_p": 0.9},
        {"decoding": {"strategy": "beam", "width": 3}},
        {"decoding": chain()},
    ]
    alone = [ask(served, **fields).json()["choices"] for fields in well]
    broken: list[dict[str, object]] = [{"decoding": chain(breaks_at=i)} for i in (0, 3, 7)]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda fields: ask(served, **fields), [*well, *broken]))
    assert [reply.json()["choices"] for reply in replies[: len(well)]] == alone
    for reply in replies[len(well) :]:
        assert reply.status_code == 500
        assert error_of(reply) == {
            "message": "the plug-in processor 'force' failed: RuntimeError",
            "type": "server_error",
            "param": None,
            "code": "generation_failed",
        }


def test_what_breaks_amid_a_stream_ends_it_with_an_error_event(served: Served) -> None:
    text = ask(served, decoding=chain(breaks_at=3), stream=True).text
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    told = [event for event in events if "error" in event]
    assert len(events) > len(told) == 1
    assert "the plug-in processor 'force' failed: RuntimeError" in told[0]


def test_strategy_that_cannot_be_made_is_a_500_that_names_it(served: Served) -> None:
    reply = ask(served, decoding={"strategy": "broken"})
    assert (reply.status_code, error_of(reply)["message"]) == (
        500,
        "the plug-in strategy 'broken' failed: RuntimeError",
    )
    assert ask(served, temperature=0).status_code == 200


@pytest.mark.parametrize(
    ("token", "told"),
    [
        (999, "decoding.chain[0].force: ForceParams failed: RuntimeError"),
        (998, "the engine could not take the request: RuntimeError"),
    ],
)
def test_check_that_breaks_down_is_a_500(served: Served, token: int, told: str) -> None:
    """In the process that reads requests, or only when the engine, which has torch, makes the parameters again."""
    reply = ask(served, decoding=chain(token))
    assert (reply.status_code, error_of(reply)["message"]) == (500, told)
    assert error_of(reply)["code"] == "generation_failed"
    assert ask(served, temperature=0).status_code == 200


def test_server_is_well_afterwards(served: Served) -> None:
    for breaks_at in range(4):
        assert ask(served, decoding=chain(breaks_at=breaks_at)).status_code == 500
    assert httpx.get(f"{served.url}/health", timeout=WAIT_SECONDS).status_code == 200
    assert ask(served, temperature=0).status_code == 200
    assert served.metrics()["penstock_engine_kv_blocks_in_use"] == 0


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            PLUGIN.replace('name = "force"', 'name = "top_p"'),
            "there is a processor 'top_p' already, from Penstock itself",
        ),
        ("import torch\n" + PLUGIN, "imports torch; import it inside the functions that use it"),
        ("1 / 0", "cannot be loaded: ZeroDivisionError: division by zero"),
    ],
)
def test_start_refuses_in_one_line(source: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(source)
    done = subprocess.run(
        [Path(sys.executable).parent / "penstock", "serve", "demo", "--port", "0", "--plugin", str(file)],
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
    )
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"penstock: {file}: ")
    assert told in lines[0]
