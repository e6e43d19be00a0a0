"""Every flat decoding field over HTTP, through the real engine: it changes the reply as documented, or is refused by
name. A field that joins the table also joins these tests."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from server_api import Api
from stepping_engine import SteppingEngine

from penstock_decoding.flat_fields import FLAT_FIELDS, SWITCHES
from penstock_decoding.flat_strategy import STRATEGY_FIELDS
from penstock_decoding.processors import DEFAULT_ORDER
from penstock_server.app import create_app
from penstock_server.context import ServerContext
from penstock_server.schemas.fields import DECODING_FIELDS
from penstock_server.settings import ServerConfig

pytestmark = pytest.mark.anyio

NUM_LIKELY = 12
PROMPT = [40, 41, 42, 40, 41, 43, 40, 41]
ASKED: dict[str, Any] = {"prompt": PROMPT, "seed": 5, "n": 3, "max_tokens": 12, "logprobs": 0}


@dataclass(frozen=True)
class Case:
    """A value that shows what a field does, the fields that it needs beside it, and values that are refused."""

    value: object
    beside: dict[str, Any] = field(default_factory=dict)
    wrong: tuple[object, ...] = ("1", -3, 1e9, [1], True)


LISTS_ONLY = ("cat", 3, {"a": 1}, True, [1.5])
CASES = {
    "allowed_sequences": Case([[41, 42], [43, 44]], wrong=LISTS_ONLY),
    "allowed_texts": Case([" wheel", "Hello"], wrong=LISTS_ONLY),
    "bad_words": Case(["L", "P"], wrong=(*LISTS_ONLY, [""], ["  "])),
    "bad_words_ids": Case([[44], [45, 46]], wrong=(*LISTS_ONLY, [[]], [[500]])),
    "allowed_token_ids": Case([41, 42, 43], wrong=("cat", 3, True, [], [500], [-1], [1.5])),
    "no_repeat_ngram_size": Case(2),
    "min_tokens": Case(7, wrong=("1", -3, 13, [1], True)),
    "logit_bias": Case({"44": -100, "45": 5.5}, wrong=("1", -3, {"44": 101}, {"500": 1}, {"a": 1}, True)),
    "repetition_penalty": Case(1.8),
    "presence_penalty": Case(1.5),
    "frequency_penalty": Case(1.5),
    "dry_multiplier": Case(20.0, {"dry_allowed_length": 1}),
    "dry_base": Case(9.0, {"dry_multiplier": 0.5, "dry_allowed_length": 1}),
    "dry_allowed_length": Case(1, {"dry_multiplier": 20.0}),
    "dry_penalty_last_n": Case(3, {"dry_multiplier": 20.0, "dry_allowed_length": 1}, wrong=("1", -3, 10**9, True)),
    "dry_sequence_breakers": Case(
        list("IJKLMNOPQRST"),
        {"dry_multiplier": 20.0, "dry_allowed_length": 1},
        wrong=(*LISTS_ONLY, [""]),
    ),
    "temperature": Case(0.3),
    "dynatemp_range": Case(0.9),
    "dynatemp_exponent": Case(6.0, {"dynatemp_range": 0.9}),
    "top_n_sigma": Case(0.2),
    "top_h": Case(0.4),
    "top_k": Case(2, wrong=("1", -3, 1.5, [1], True)),
    "top_p": Case(0.4),
    "min_p": Case(0.4),
    "typical_p": Case(0.4),
    "epsilon_cutoff": Case(0.09),
    "eta_cutoff": Case(0.5),
    "mirostat": Case(2, {"mirostat_tau": 1.0}),
    "mirostat_tau": Case(1.0, {"mirostat": 2}),
    "mirostat_eta": Case(1.0, {"mirostat": 2, "mirostat_tau": 1.0}),
    "xtc_probability": Case(0.8, {"xtc_threshold": 0.05}),
    "xtc_threshold": Case(0.05, {"xtc_probability": 0.8}),
}
every_field = pytest.mark.parametrize("name", CASES)


def script(prefix: Sequence[int]) -> NDArray[np.float32]:
    """A dozen likely tokens, the letters I to T, whose logits any change of the prefix changes; so an answer soon
    repeats itself. Ids that the tokenizer does not have are out of reach."""
    digest = blake2b(np.asarray(prefix, np.int64).tobytes(), digest_size=8).digest()
    logits = np.random.default_rng(int.from_bytes(digest)).normal(size=500)
    logits[40 : 40 + NUM_LIKELY] += 9
    logits[390:] -= 12
    return logits.astype(np.float32)


@pytest.fixture
def real(api: Api) -> Api:
    """The app over the real engine with scripted logits; token 42 may end an answer."""
    engine = SteppingEngine(api.engine.info, script)
    context = ServerContext.make(engine, api.context.model, ServerConfig())
    transport = httpx.ASGITransport(create_app(context), raise_app_exceptions=False)
    api.context, api.client = context, httpx.AsyncClient(transport=transport, base_url="http://test", timeout=30)
    return api


async def choices(api: Api, **fields: object) -> Any:
    """The reply's answers."""
    response = await api.complete(**(ASKED | fields))
    assert response.status_code == 200, response.text
    return response.json()["choices"]


async def refusal(api: Api, **fields: object) -> Any:
    """The error of a request that is refused."""
    response = await api.complete(**(ASKED | fields))
    assert response.status_code == 400, response.text
    return response.json()["error"]


def tokens(choice: Any) -> list[str]:
    """The labels of an answer's tokens."""
    told: list[str] = choice["logprobs"]["tokens"]
    return told


def as_chain(fields: dict[str, Any]) -> list[dict[str, Any]]:
    """The chain that says what these fields say."""
    arguments: dict[str, dict[str, Any]] = {}
    for name, value in fields.items():
        processor, parameter, _ = FLAT_FIELDS[name]
        arguments.setdefault(processor, {})[parameter] = value
    return [{name: arguments[name]} for name in DEFAULT_ORDER if name in arguments]


def test_all_are_tested() -> None:
    """Every field of the table has a case here, but for grammars, which need a vocabulary (test_structured.py); and
    every one of them is accepted over HTTP."""
    assert set(CASES) == {name for name, (processor, _, _) in FLAT_FIELDS.items() if processor != "grammar"}
    assert set(CASES) <= set(DECODING_FIELDS)


@every_field
async def test_changes_the_reply(real: Api, name: str) -> None:
    """A field changes the reply against one without it, as the chain that says the same does, token for token."""
    case = CASES[name]
    extra = {"stop_token_ids": [42]} if name == "min_tokens" else {}
    beside = {other: value for other, value in case.beside.items() if SWITCHES.get(other) != name}
    without = await choices(real, **beside, **extra)
    with_it = await choices(real, **case.beside, **extra, **{name: case.value})
    assert with_it != without
    chained = await choices(real, decoding={"chain": as_chain({name: case.value, **case.beside})}, **extra)
    assert chained == with_it


@every_field
async def test_idle_values_change_nothing(real: Api, name: str) -> None:
    """A client that spells out a default gets what it gets without it; the field it belongs to may stand idle too."""
    for idle in FLAT_FIELDS[name][2]:
        value = list(idle) if isinstance(idle, tuple) else idle
        assert await choices(real, **{name: value}) == await choices(real)
    if name in SWITCHES:
        switch = SWITCHES[name]
        idle = FLAT_FIELDS[switch][2][0]
        assert await choices(real, **{name: CASES[name].value, switch: idle}) == await choices(real)


@every_field
async def test_wrong_values_are_refused_by_name(real: Api, name: str) -> None:
    """The error names the field that the caller wrote, and nothing is generated."""
    case = CASES[name]
    for value in case.wrong:
        if any(type(value) is type(idle) and value == idle for idle in FLAT_FIELDS[name][2]):
            continue
        error = await refusal(real, **case.beside, **{name: value})
        assert error["param"] is not None and error["param"].split(".")[0] == name, (value, error)
    assert real.context.client.stats.num_prompt_tokens == 0


@pytest.mark.parametrize("name", SWITCHES)
async def test_a_field_without_the_one_it_belongs_to(real: Api, name: str) -> None:
    """It would do nothing, and is refused rather than dropped."""
    error = await refusal(real, **{name: CASES[name].value})
    assert error["param"] == name and SWITCHES[name] in error["message"]


@every_field
async def test_beside_a_chain(real: Api, name: str) -> None:
    """A flat field and a chain contradict each other."""
    error = await refusal(real, decoding={"chain": []}, **{name: CASES[name].value})
    assert error["param"] == name


@every_field
async def test_chat_takes_it_too(real: Api, name: str) -> None:
    """Both routes take the same fields, and a stream says what a whole reply says."""
    case = CASES[name]
    fields = {"seed": 5, "max_tokens": 8, **case.beside, name: case.value}
    whole = await real.chat(**fields)
    assert whole.status_code == 200, whole.text
    stream = await real.chat(**fields, stream=True)
    assert stream.status_code == 200, stream.text
    assert "error" not in stream.text
    text = whole.json()["choices"][0]["message"]["content"]
    lines = [line.removeprefix("data: ") for line in stream.text.splitlines() if line.startswith("data: {")]
    deltas = [httpx.Response(200, text=line).json()["choices"] for line in lines]
    assert "".join(choice[0]["delta"].get("content") or "" for choice in deltas if choice) == text


async def test_bad_words_do_not_appear(real: Api) -> None:
    """No answer spells a word that is excluded, as a token of its own, with a space before it, or out of pieces."""
    plain = await choices(real)
    likely = sorted({token for choice in plain for token in tokens(choice)})
    for choice in await choices(real, bad_words=likely[:3]):
        assert not set(tokens(choice)) & set(likely[:3])
    pairs = ["".join(tokens(choice)[:2]) for choice in plain]
    assert all(len(real.encode(pair)) == 2 for pair in pairs)
    for choice in await choices(real, bad_words=pairs):
        assert not any(pair in choice["text"] for pair in pairs)


async def test_only_allowed_tokens_appear(real: Api) -> None:
    """Every token of every answer is one of those listed."""
    label = real.context.model.codec.tokenizer.label
    for choice in await choices(real, allowed_token_ids=[41, 42, 43]):
        assert set(tokens(choice)) <= {label(token) for token in (41, 42, 43)}


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_no_ngram_twice(real: Api, size: int) -> None:
    """Prompt and answer together hold no run of tokens twice that an answer's token ends."""
    label = real.context.model.codec.tokenizer.label
    for choice in await choices(real, no_repeat_ngram_size=size):
        whole = [label(token) for token in PROMPT] + tokens(choice)
        runs = [tuple(whole[i : i + size]) for i in range(len(whole) - size + 1)]
        for end in range(len(PROMPT), len(whole)):
            assert runs.index(tuple(whole[end + 1 - size : end + 1])) == end + 1 - size


async def test_dry_ends_a_loop(real: Api) -> None:
    """Greedily, with every repeat of two tokens made all but impossible, none is continued; the prompt counts."""
    label = real.context.model.codec.tokenizer.label
    asked = {"temperature": 0, "n": 1, "max_tokens": 40, "dry_sequence_breakers": []}
    (choice,) = await choices(real, **asked, dry_multiplier=100.0, dry_allowed_length=1)
    whole = [label(token) for token in PROMPT] + tokens(choice)
    pairs = list(itertools.pairwise(whole))
    for end in range(len(PROMPT), len(whole)):
        assert pairs.index(pairs[end - 1]) == end - 1


async def test_xtc_takes_the_top_choice(real: Api) -> None:
    """Struck in every step and greedy, an answer has the least likely of the likely tokens each time: never the best
    one where two reach the threshold. Each token's own place is told by its log-probability."""
    plain = await choices(real, n=1, temperature=0)
    struck = await choices(real, n=1, temperature=0, xtc_probability=1.0, xtc_threshold=0.05)
    first, best = (choice[0]["logprobs"]["token_logprobs"][0] for choice in (struck, plain))
    assert np.log(0.05) <= first < best


async def test_nothing_left_fails_alone(real: Api) -> None:
    """Bans that leave no token end that request with an error; the server goes on."""
    response = await real.complete(**ASKED, allowed_token_ids=[41], bad_words_ids=[[41]])
    assert response.status_code == 500, response.text
    assert response.json()["error"]["message"] == "bad_words, allowed_tokens left no token to choose"
    assert len(await choices(real)) == 3


async def test_usual_breakers_of_dry(api: Api) -> None:
    """DRY's breakers are the tokens of a line break, a colon, a quote and an asterisk, and every ordinary token that
    holds one of them, in any neighbourhood; a list of one's own takes their place."""
    tokenizer = api.context.model.codec.tokenizer
    special = tokenizer.vocabulary.special_ids
    for fields, sought in (({}, b'\n:"*'), ({"dry_sequence_breakers": ["h", ";"]}, b"h;")):
        assert (await api.complete(dry_multiplier=0.8, **fields)).status_code == 200
        (step,) = api.engine.requests[-1].decoding.chain
        holding = {i for i in range(500) if i not in special and set(tokenizer.own_bytes(i)) & set(sought)}
        assert step.params.breakers and {breaker[0] for breaker in step.params.breakers} == holding
        assert all(len(breaker) == 1 for breaker in step.params.breakers) and not step.params.has_texts
    assert (await api.complete(dry_multiplier=0.8, dry_sequence_breakers=[])).status_code == 200
    assert api.engine.requests[-1].decoding.chain[0].params.breakers == ()


async def test_breakers_of_several_tokens(api: Api) -> None:
    """A breaker that is no token of the vocabulary is the sequence that spells it."""
    assert (await api.complete(dry_multiplier=0.8, dry_sequence_breakers=["###"])).status_code == 200
    (step,) = api.engine.requests[-1].decoding.chain
    assert tuple(api.encode("###")) in step.params.breakers


async def test_bad_words_with_and_without_a_space(api: Api) -> None:
    """A text is excluded as its tokens by themselves and behind a space."""
    assert (await api.complete(bad_words=["wheel"])).status_code == 200
    (step,) = api.engine.requests[-1].decoding.chain
    assert {tuple(api.encode("wheel")), tuple(api.encode(" wheel"))} == set(step.params.words)


ENDS: dict[str, Any] = {"stop_token_ids": [42, 43], "max_tokens": 8}
# Flat field of a strategy -> its value, the fields beside it, those without it, and the object that says the same.
STRATEGY_CASES: dict[str, tuple[object, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "num_beams": (4, {}, {}, {"strategy": "beam", "width": 4}),
    "use_beam_search": (True, {}, {}, {"strategy": "beam", "width": 3}),
    "best_of": (6, {}, {}, {"strategy": "sample", "best_of": 6}),
    "num_beam_groups": (
        2,
        {"num_beams": 4, "diversity_penalty": 2.0},
        {"num_beams": 4},
        {"strategy": "beam", "width": 4, "groups": 2, "diversity_penalty": 2.0},
    ),
    "diversity_penalty": (
        *(2.0, {"num_beams": 4, "num_beam_groups": 2}, {"num_beams": 4, "num_beam_groups": 2}),
        {"strategy": "beam", "width": 4, "groups": 2, "diversity_penalty": 2.0},
    ),
    "length_penalty": (
        *(-4.0, {"num_beams": 4} | ENDS, {"num_beams": 4} | ENDS),
        {"strategy": "beam", "width": 4, "length_penalty": -4.0},
    ),
    "early_stopping": (
        *(True, {"num_beams": 4, "length_penalty": 4.0} | ENDS, {"num_beams": 4, "length_penalty": 4.0} | ENDS),
        {"strategy": "beam", "width": 4, "length_penalty": 4.0, "early_stopping": True},
    ),
}


def test_all_strategy_fields_are_tested() -> None:
    """Every flat field that names a strategy or fills its parameters has a case here."""
    assert set(STRATEGY_CASES) == set(STRATEGY_FIELDS)


@pytest.mark.parametrize("name", STRATEGY_CASES)
async def test_strategy_fields_change_the_reply(real: Api, name: str) -> None:
    """A field changes the reply against one without it, as the object `decoding` that says the same does."""
    value, beside, without, decoding = STRATEGY_CASES[name]
    with_it = await choices(real, **beside, **{name: value})
    assert with_it != await choices(real, **without)
    ends = {field: beside[field] for field in ENDS if field in beside}
    assert await choices(real, **ends, decoding=decoding) == with_it


@pytest.mark.parametrize("name", STRATEGY_CASES)
async def test_wrong_strategy_fields_are_refused_by_name(real: Api, name: str) -> None:
    """The error names the field that the caller wrote; one that fills a beam's parameter needs a beam."""
    for value in ("1", -30, [1], {"a": 1}):
        error = await refusal(real, **{name: value})
        assert error["param"] == name, (value, error)
    if name not in ("num_beams", "use_beam_search", "best_of"):
        error = await refusal(real, **{name: STRATEGY_CASES[name][0]})
        assert error["param"] == name
