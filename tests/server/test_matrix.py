"""Every strategy with every option: each option does to the reply what is documented, or is a 400 that names it.

The cells are made from the tables and from the schemas; what joins them fails here until it has its cell.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from decoding_matrix import (
    END,
    LETTERS,
    PROMPT,
    STRATEGIES,
    VOCAB_SIZE,
    WORD,
    Matrix,
    Reply,
    body,
    contents,
    joined,
    letters_and_ends,
)
from field_cells import BUSY, NAMES, STRUCTURED, flat_cell
from numpy.typing import NDArray
from scipy import special
from text_options import TEXT_OPTIONS

from penstock_decoding import strategies
from penstock_decoding.flat_fields import FLAT_FIELDS
from penstock_decoding.flat_strategy import STRATEGY_FIELDS
from penstock_decoding.processors import DEFAULT_ORDER, PROCESSORS
from penstock_server.model import ServedModel
from penstock_server.replies.layout import LEAST_LOGPROB
from penstock_server.schemas.chat import ChatBody
from penstock_server.schemas.completion import CompletionBody
from penstock_server.schemas.structured import STRUCTURED_FIELDS

pytestmark = pytest.mark.anyio

every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)
RANDOM = ("sample", "stochastic_beam")
ONE_BY_ONE = ("greedy", "sample")  # their answers do not depend on each other

SHARP: list[dict[str, Any]] = [{"temperature": 0.5}, {"top_k": 6}]
GRAMMARS = ("guided_json", "guided_regex", "guided_choice", "guided_grammar")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def matrix(served_model: ServedModel) -> AsyncIterator[Matrix]:
    matrix = Matrix(served_model)
    yield matrix
    await matrix.client.aclose()


def assert_as_documented(matrix: Matrix, fields: dict[str, Any], reply: Reply) -> bool:
    """Every answer was chosen as its strategy says from what its chain leaves of the script's logits, and the reply
    says so. Returns whether the chain changed anything that is told."""
    decoding = fields["decoding"]
    strategy, is_changed = decoding["strategy"], False
    assert reply.choices
    for choice in reply.choices:
        tokens, told = matrix.tokens(choice), choice["logprobs"]
        sample = choice["index"] if strategy == "sample" else 0
        own = special.log_softmax([letters_and_ends([*PROMPT, *tokens[:i]]) for i in range(len(tokens))], axis=-1)
        left = matrix.distributions(fields, tokens, sample)
        places = np.arange(len(tokens)), tokens
        assert told["token_logprobs"] == pytest.approx(own[places].tolist(), abs=1e-4)
        processed = told["processed_logprobs"]
        assert processed["token_logprobs"] == pytest.approx(left[places].tolist(), abs=1e-4)
        for row, top in zip(left, processed["top_logprobs"], strict=True):
            expected = {label: max(float(row[matrix.ids[label]].max()), LEAST_LOGPROB) for label in top}
            assert top == pytest.approx(expected, abs=1e-4)
            assert max(top.values()) == pytest.approx(row.max(), abs=1e-4)
        is_changed = is_changed or processed["top_logprobs"] != told["top_logprobs"]
        assert 1 <= len(tokens) <= fields["max_tokens"]
        assert choice["finish_reason"] == "stop" or len(tokens) == fields["max_tokens"]
        is_ended = choice["finish_reason"] == "stop"
        assert choice["text"] == matrix.codec.tokenizer.decode(tokens[: len(tokens) - is_ended])
        score = choice.get("score")
        ranked = expected_score(decoding, float(left[places].sum()), len(tokens))
        if ranked is None:
            assert score is None
        elif decoding.get("diversity_penalty"):
            assert score is not None and score <= ranked + 1e-4
        else:
            assert score == pytest.approx(ranked, rel=1e-5, abs=1e-4)
        if strategy == "greedy":
            assert tokens == left.argmax(-1).tolist()
        if strategy == "constrained_beam":
            assert set(tokens) >= {word for (word,) in decoding["words"]}
        assert ("inclusion_probability" in choice) == (strategy == "stochastic_beam")
    return is_changed


def expected_score(decoding: dict[str, Any], total: float, length: int) -> float | None:
    """What an answer of this log-probability and length is ranked by; None where there is no ranking."""
    match decoding["strategy"]:
        case "beam" | "constrained_beam":
            return float(total / length ** decoding.get("length_penalty", 1.0))
        case "stochastic_beam":
            return total
        case "sample" if "best_of" in decoding:
            return total / length
    return None


def test_every_strategy_and_processor_has_its_cells() -> None:
    """What joins the tables joins the matrix."""
    assert set(STRATEGIES) == set(strategies.STRATEGIES)
    assert set(BUSY) == set(PROCESSORS)


@every_strategy
async def test_plain(matrix: Matrix, strategy: str) -> None:
    """What all other replies are compared with: no chain, so both distributions are the model's."""
    reply = await matrix.ask(body(strategy))
    assert len(reply.choices) == 2
    assert not assert_as_documented(matrix, body(strategy), reply)


@every_strategy
@pytest.mark.parametrize("processor", BUSY)
async def test_processor(matrix: Matrix, strategy: str, processor: str) -> None:
    """A strategy chooses from what the processor leaves, and the processor leaves something else than it was given."""
    fields = body(strategy, [{processor: BUSY[processor]}])
    assert assert_as_documented(matrix, fields, await matrix.ask(fields))


# These leave few tokens or none together with others, or contradict `min_tokens`.
APART = {"grammar", "allowed_sequences", "allowed_tokens", "no_repeat_ngram", "force_end"}


@every_strategy
async def test_all_at_once(matrix: Matrix, strategy: str) -> None:
    """A chain of all that go together: what is chosen from is what they leave one after the other, and flat fields
    stand for the same chain."""
    long_chain = [{name: BUSY[name]} for name in DEFAULT_ORDER if name not in APART]
    fields = body(strategy, long_chain)
    assert assert_as_documented(matrix, fields, await matrix.ask(fields))
    # Beside `dynatemp_range`, `temperature` is the dynamic one's.
    flat = {name: BUSY[name] for name in DEFAULT_ORDER if name not in {*APART, "temperature", "adaptive_temperature"}}
    given = {NAMES[name, own]: value for name, params in flat.items() for own, value in params.items()}
    reply = await matrix.ask(body(strategy, **given))
    assert reply.choices == (await matrix.ask(body(strategy, [{name: flat[name]} for name in flat]))).choices


@every_strategy
@pytest.mark.parametrize("field", [field for field in FLAT_FIELDS if field not in GRAMMARS])
async def test_flat_field(matrix: Matrix, strategy: str, field: str) -> None:
    """The reply is that of the chain that says the same, and not that of a request without the field."""
    given, without, chain = flat_cell(field)
    assert field in given
    reply = await matrix.ask(body(strategy, **given))
    assert reply.choices == (await matrix.ask(body(strategy, chain))).choices
    assert reply.choices != (await matrix.ask(body(strategy, **without))).choices
    refused = await matrix.ask(body(strategy, [], **given))
    assert refused.refused_field in given


# Parameter of a strategy -> its value, and what else the strategy needs for it to show.
PARAMETERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "n": (2, {"n": None}),
    "best_of": (4, {}),
    "width": (1, {"n": None}),
    "length_penalty": (-4.0, {}),
    "early_stopping": (True, {"params": {"length_penalty": 4.0}, "stop_token_ids": [42, 43]}),
    "groups": (2, {}),
    "diversity_penalty": (3.0, {"params": {"groups": 2}, "n": 4}),
    "words": ([[WORD + 1]], {}),
    "any_of": ([[[46], [43]]], {}),
    "texts": (["O"], {}),
}
# Flat fields that name a strategy, and so contradict `decoding.strategy`.
NAMING: dict[str, Any] = {"num_beams": 3, "use_beam_search": True}
# Flat field -> the parameter it fills beside `decoding.strategy`.
FILLS = {
    **dict.fromkeys(NAMING),
    "best_of": "best_of",
    "num_beam_groups": "groups",
    "diversity_penalty": "diversity_penalty",
    "length_penalty": "length_penalty",
    "early_stopping": "early_stopping",
}


def takes(strategy: str, parameter: str) -> bool:
    return parameter in strategies.STRATEGIES[strategy].Params.__dataclass_fields__


def test_every_parameter_has_its_cells() -> None:
    """All parameters of all strategies, and all flat fields that fill them."""
    taken = {name for strategy in strategies.STRATEGIES.values() for name in strategy.Params.__dataclass_fields__}
    assert set(PARAMETERS) == taken
    assert set(FILLS) == set(STRATEGY_FIELDS)


@every_strategy
@pytest.mark.parametrize("parameter", PARAMETERS)
async def test_strategy_parameter(matrix: Matrix, strategy: str, parameter: str) -> None:
    """A strategy takes it, and the reply is another one, or refuses it by name."""
    value, beside = PARAMETERS[parameter]
    params = {**beside.get("params", {}), parameter: value}
    if not takes(strategy, parameter):
        reply = await matrix.ask(body(strategy, params={parameter: value}))
        assert reply.refused_field == f"decoding.{parameter}"
        return
    with_it, without = body(strategy, **{**beside, "params": params}), body(strategy, **beside)
    reply = await matrix.ask(with_it)
    assert_as_documented(matrix, with_it, reply)
    assert reply.choices != (await matrix.ask(without)).choices


@every_strategy
@pytest.mark.parametrize("field", FILLS)
async def test_flat_strategy_field(matrix: Matrix, strategy: str, field: str) -> None:
    """It fills the strategy's parameter, or is refused: the strategy has no such parameter, or has been named."""
    parameter = FILLS[field]
    if parameter is None or not takes(strategy, parameter):
        value = NAMING[field] if parameter is None else PARAMETERS[parameter][0]
        assert (await matrix.ask(body(strategy, **{field: value}))).refused_field == field
        return
    value, beside = PARAMETERS[parameter]
    reply = await matrix.ask(body(strategy, **beside, **{field: value}))
    params = {**beside.get("params", {}), parameter: value}
    assert reply.choices == (await matrix.ask(body(strategy, **{**beside, "params": params}))).choices


@every_strategy
@pytest.mark.parametrize("field", STRUCTURED)
async def test_structured_output(matrix: Matrix, strategy: str, field: str) -> None:
    """Every answer that ends by itself is a sentence of the grammar, whose mask is what the strategy chose from."""
    given, pattern = STRUCTURED[field]
    reply = await matrix.ask(body(strategy, **given, max_tokens=16))
    for choice in reply.choices:
        assert choice["finish_reason"] == "stop" and re.fullmatch(pattern, choice["text"]), choice["text"]
        assert choice["logprobs"]["processed_logprobs"]["top_logprobs"] != choice["logprobs"]["top_logprobs"]
    for contradicting in ({"min_tokens": 2}, {"ignore_eos": True}):
        assert refused_root(await matrix.ask(body(strategy, **given, **contradicting))) in given
    assert refused_root(await matrix.ask(body(strategy, [], **given))) in given


def refused_root(reply: Reply) -> str | None:
    """The field of the body in which a 400 finds the fault."""
    return None if reply.refused_field is None else reply.refused_field.split(".")[0]


async def max_tokens(matrix: Matrix, strategy: str) -> None:
    """Answers that nothing else ends have so many tokens."""
    for count in (3, 11):
        reply = await matrix.ask(body(strategy, max_tokens=count, ignore_eos=True))
        assert [len(matrix.tokens(choice)) for choice in reply.choices] == [count, count]
        assert {choice["finish_reason"] for choice in reply.choices} == {"length"}


async def stop(matrix: Matrix, strategy: str) -> None:
    """Texts end before the string; nothing else about them changes, but that a cut answer has no score."""
    whole = await matrix.ask(body(strategy, ignore_eos=True))
    string = whole.choices[0]["text"][4:6]
    reply = await matrix.ask(body(strategy, ignore_eos=True, stop=string))
    for before, after in zip(whole.choices, reply.choices, strict=True):
        text, found, _ = before["text"].partition(string)
        assert (after["text"], after["finish_reason"]) == (text, "stop" if found else "length")
        assert after.get("score") == (None if found else before.get("score"))


async def stop_token_ids(matrix: Matrix, strategy: str) -> None:
    """An answer that holds one ends there, and the token is no part of its text."""
    ids = [token for token in LETTERS if token != WORD][::3]
    fields = body(strategy, stop_token_ids=ids)
    reply, whole = await matrix.ask(fields), await matrix.ask(body(strategy))
    assert_as_documented(matrix, fields, reply)
    for choice in reply.choices:
        tokens = matrix.tokens(choice)
        assert not set(tokens[:-1]) & set(ids)
        assert (tokens[-1] in ids or tokens[-1] == END) == (choice["finish_reason"] == "stop")
    assert reply.choices != whole.choices
    if strategy in ONE_BY_ONE:
        for before, after in zip(map(matrix.tokens, whole.choices), map(matrix.tokens, reply.choices), strict=True):
            end = next((i + 1 for i, token in enumerate(before) if token in ids), len(before))
            assert after == before[:end]


async def ignore_eos(matrix: Matrix, strategy: str) -> None:
    """The end of text is a token like others: answers go on behind it."""
    # Short answers are the best ones then, where there are best ones.
    params = {"length_penalty": -4.0} if takes(strategy, "length_penalty") else {}
    count = 6 if strategy == "sample" else 2  # so that one of them ends early
    fields = body(strategy, ignore_eos=True, params=params, n=count)
    reply, plain = await matrix.ask(fields), await matrix.ask(body(strategy, params=params, n=count))
    assert_as_documented(matrix, fields, reply)
    assert {choice["finish_reason"] for choice in reply.choices} == {"length"}
    assert "stop" in {choice["finish_reason"] for choice in plain.choices}


async def stream(matrix: Matrix, strategy: str) -> None:
    """The chunks together are the whole reply."""
    reply = await matrix.ask(body(strategy, stream=True))
    assert joined(reply.events) == (await matrix.ask(body(strategy))).choices


async def stream_options(matrix: Matrix, strategy: str) -> None:
    """The count of tokens at the end, and events that tell the search; ordinary chunks stay as they were."""
    assert (await matrix.ask(body(strategy, stream_options={}))).refused_field == "stream_options"
    options = {"include_usage": True, "decoding_events": True}
    told = (await matrix.ask(body(strategy, stream=True, stream_options=options))).events
    whole = await matrix.ask(body(strategy))
    assert joined(told) == whole.choices
    assert told[-1][1]["usage"] == whole.json["usage"]
    searched = [data for kind, data in told if kind == "penstock.decoding"]
    assert [data["step"] for data in searched] == list(range(1, len(searched) + 1)) and searched
    nodes = {node["node"]: node for data in searched for node in data["nodes"]}
    for index, choice in enumerate(whole.choices):
        path = [one["node"] for data in searched for one in data["settled"] if one["index"] == index]
        assert [nodes[node]["token_id"] for node in path] == matrix.tokens(choice)
        assert [nodes[node]["parent"] for node in path] == [0, *path[:-1]]
        total = sum(choice["logprobs"]["processed_logprobs"]["token_logprobs"])
        assert nodes[path[-1]]["score"] == pytest.approx(total, abs=1e-3)


async def processed_logprobs(matrix: Matrix, strategy: str) -> None:
    """So many entries beside the chosen token's, of what is left by the chain; the answers are the same without."""
    whole = await matrix.ask(body(strategy, SHARP))
    for count in (None, 0, 3):
        reply = await matrix.ask(body(strategy, SHARP, processed_logprobs=count))
        assert contents(reply) == contents(whole)
        for choice in reply.choices:
            assert ("processed_logprobs" in choice["logprobs"]) == (count is not None)
            if count is not None:
                told = choice["logprobs"]["processed_logprobs"]["top_logprobs"]
                assert all(max(count, 1) <= len(top) <= count + 1 for top in told)


async def logprobs(matrix: Matrix, strategy: str) -> None:
    """So many entries beside the chosen token's, of the model's own; the answers are the same without."""
    whole = await matrix.ask(body(strategy))
    for count in (None, 0, 3):
        reply = await matrix.ask(body(strategy, logprobs=count))
        assert contents(reply) == contents(whole)
        for choice in reply.choices:
            assert ("token_logprobs" in choice["logprobs"]) == (count is not None)
            if count is not None:
                assert all(max(count, 1) <= len(top) <= count + 1 for top in choice["logprobs"]["top_logprobs"])


async def n(matrix: Matrix, strategy: str) -> None:
    """So many answers; the first ones stay what they were where the strategy says so. A search has no more than its
    width."""
    whole = await matrix.ask(body(strategy))
    (alone,) = (await matrix.ask(body(strategy, n=1))).choices
    if strategy in ("greedy", "sample", "stochastic_beam"):
        told = [{key: choice[key] for key in choice.keys() - {"inclusion_probability"}} for choice in whole.choices]
        assert {key: alone[key] for key in alone.keys() - {"inclusion_probability"}} == told[0]
    more = await matrix.ask(body(strategy, n=5))
    width = STRATEGIES[strategy].get("width", 5)
    assert more.refused_field == "n" if width < 5 else more.choices[:2] == whole.choices
    most = (await matrix.ask(body(strategy, n=width))).choices
    texts = [choice["text"] for choice in most]
    assert len(most) == width and (strategy == "sample" or len(set(texts)) == (1 if strategy == "greedy" else width))


async def seed(matrix: Matrix, strategy: str) -> None:
    """It is told, and changes what is left to chance and nothing else."""
    first, second = await matrix.ask(body(strategy)), await matrix.ask(body(strategy, seed=6))
    assert (first.json["seed"], second.json["seed"]) == (5, 6)
    assert (first.choices != second.choices) == (strategy in RANDOM)
    assert (await matrix.ask(body(strategy, seed=2**63))).refused_field == "seed"


async def chain_trace(matrix: Matrix, strategy: str) -> None:
    """Each step of the chain at each token; the answers stay what they were."""
    plain = await matrix.ask(body(strategy, SHARP))
    traced = await matrix.ask(body(strategy, SHARP, chain_trace=True))
    for before, after in zip(plain.choices, traced.choices, strict=True):
        assert {key: after[key] for key in after if key != "chain_trace"} == before
        told = after["chain_trace"]["content"]
        assert [one["token"] for one in told] == after["logprobs"]["tokens"]
        assert all([step["name"] for step in one["steps"]] == ["temperature", "top_k"] for one in told)
        assert all([step["kept_count"] for step in one["steps"]] == [VOCAB_SIZE, 6] for one in told)


async def echo(matrix: Matrix, strategy: str) -> None:
    """The prompt stands before each answer, with log-probabilities of the model its tokens do too, and what is told of
    the answer is what it is without; a chain is nothing to the prompt. No tokens at all leave the prompt alone."""
    plain = await matrix.ask(body(strategy, SHARP))
    echoed = await matrix.ask(body(strategy, SHARP, echo=True))
    alone = await unanswered(matrix, strategy, echo=True)
    streamed = await matrix.ask(body(strategy, SHARP, echo=True, stream=True))
    text = matrix.codec.tokenizer.decode(PROMPT)
    assert contents(echoed) == [(text + answer, reason) for answer, reason in contents(plain)]
    assert contents(await matrix.ask(body(strategy, SHARP, echo=True, logprobs=None))) == contents(echoed)
    assert contents(alone) == [(text, "length")] * 2
    assert joined(streamed.events) == echoed.choices
    logs = prompt_logs()
    for choice, before, read in zip(echoed.choices, plain.choices, alone.choices, strict=True):
        told, answer = choice["logprobs"], before["logprobs"]
        for column in ("tokens", "token_logprobs", "top_logprobs"):
            assert told[column] == read["logprobs"][column] + answer[column]
        assert told["text_offset"] == [*range(len(PROMPT)), *(len(text) + at for at in answer["text_offset"])]
        assert told["token_logprobs"][0] is told["top_logprobs"][0] is None
        own = [row[token] for row, token in zip(logs, PROMPT[1:], strict=True)]
        assert told["token_logprobs"][1 : len(PROMPT)] == pytest.approx(own, abs=1e-4)
        assert told["processed_logprobs"]["token_logprobs"] == answer["processed_logprobs"]["token_logprobs"]


async def suffix(matrix: Matrix, strategy: str) -> None:
    """A vocabulary without tokens for it refuses one, by name; an empty one asks for nothing."""
    assert (await matrix.ask(body(strategy, suffix="I"))).refused_field == "suffix"
    assert (await matrix.ask(body(strategy, suffix=""))).choices == (await matrix.ask(body(strategy))).choices


async def prompt_logprobs(matrix: Matrix, strategy: str) -> None:
    """Of each token of the prompt but the first, its log-probability and rank, and the likeliest ones at its place; the
    answers stay what they were."""
    plain = await matrix.ask(body(strategy, SHARP))
    reply = await matrix.ask(body(strategy, SHARP, prompt_logprobs=3))
    streamed = await matrix.ask(body(strategy, SHARP, prompt_logprobs=3, stream=True))
    alone = await unanswered(matrix, strategy, prompt_logprobs=3, logprobs=None)
    for before, after, read in zip(plain.choices, reply.choices, alone.choices, strict=True):
        assert {key: after[key] for key in after if key != "prompt_logprobs"} == before
        assert read["prompt_logprobs"] == after["prompt_logprobs"] and read["text"] == ""
        first, *told = after["prompt_logprobs"]
        assert first is None
        for at_place, token, row in zip(told, PROMPT[1:], prompt_logs(), strict=True):
            likeliest = np.argsort(-row, kind="stable")[:3]
            assert set(at_place) == {str(token), *map(str, likeliest)}
            ranks = {str(other): 1 + int((row > row[other]).sum()) for other in [token, *likeliest]}
            assert {name: entry["rank"] for name, entry in at_place.items()} == ranks
            for name, entry in at_place.items():
                assert entry["logprob"] == pytest.approx(row[int(name)], abs=1e-4)
                assert entry["decoded_token"] == matrix.codec.tokenizer.label(int(name))
    pieces = [choice for _, data in streamed.events for choice in data["choices"]]
    for choice in reply.choices:
        own = [piece for piece in pieces if piece["index"] == choice["index"]]
        assert own[0]["prompt_logprobs"] == choice["prompt_logprobs"]
        assert not any("prompt_logprobs" in piece for piece in own[1:])


async def unanswered(matrix: Matrix, strategy: str, **fields: Any) -> Reply:
    """The reply with no tokens. A search for words has to have room for them."""
    reply = await matrix.ask(body(strategy, SHARP, max_tokens=0, **fields))
    if strategy == "constrained_beam":
        assert reply.refused_field == "decoding.words"
        return await matrix.ask(body("greedy", SHARP, max_tokens=0, **fields))
    return reply


def prompt_logs() -> NDArray[np.float64]:
    """[len(PROMPT) - 1, vocab]: what the script's logits say of the prompt's tokens from the second one on."""
    rows = [letters_and_ends(PROMPT[:i]).astype(np.float64) for i in range(1, len(PROMPT))]
    return np.asarray(special.log_softmax(np.stack(rows), axis=-1))


async def prompt(matrix: Matrix, strategy: str) -> None:
    """Of two prompts each has the answers that it has alone."""
    other = [43, 44, 45]
    both = await matrix.ask(body(strategy, prompt=[PROMPT, other]))
    each = [await matrix.ask(body(strategy, prompt=one)) for one in (PROMPT, other)]
    assert contents(both) == [answer for reply in each for answer in contents(reply)]
    assert [choice.get("score") for choice in both.choices] == [
        choice.get("score") for reply in each for choice in reply.choices
    ]


async def priority(matrix: Matrix, strategy: str) -> None:
    """When a request is served, and whose cache it uses, changes nothing about what it gets."""
    for fields in ({"priority": -3}, {"cache_salt": "mine"}):
        assert (await matrix.ask(body(strategy, **fields))).choices == (await matrix.ask(body(strategy))).choices


OPTIONS: dict[str, Callable[[Matrix, str], Awaitable[None]]] = {
    "prompt": prompt,
    "max_tokens": max_tokens,
    "stop": stop,
    "stop_token_ids": stop_token_ids,
    "ignore_eos": ignore_eos,
    "stream": stream,
    "stream_options": stream_options,
    "logprobs": logprobs,
    "processed_logprobs": processed_logprobs,
    "n": n,
    "seed": seed,
    "chain_trace": chain_trace,
    "echo": echo,
    "prompt_logprobs": prompt_logprobs,
    "suffix": suffix,
    "priority": priority,
    "cache_salt": priority,
    **TEXT_OPTIONS,
}


@every_strategy
@pytest.mark.parametrize("option", OPTIONS)
async def test_option(matrix: Matrix, strategy: str, option: str) -> None:
    """What the option's function says."""
    await OPTIONS[option](matrix, strategy)


# What a chat request has beside these. The first four decide what the model is asked, not how its answer is chosen.
CHAT = {
    "messages",
    "add_generation_prompt",
    "continue_final_message",
    "chat_template_kwargs",
    "reasoning_effort",
    # tests/server/tools
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "include_reasoning",
    "max_completion_tokens",
    "top_logprobs",
}
IN_CHAT: list[dict[str, Any]] = [
    {},
    {"n": 3},
    {"seed": 6},
    {"stop": "J"},
    {"stop_token_ids": [41, 43]},
    {"ignore_eos": True},
    {"temperature": 0.5, "top_p": 0.8, "dry_multiplier": 2.0, "dry_allowed_length": 1},
    {"bad_words": ["I", "MJ"], "min_tokens": 3},
    {"response_format": {"type": "json_schema", "json_schema": {"schema": {"const": "MI"}}}},
    {"guided_choice": ["MI", "JM"]},
    {"include_stop_str_in_output": True, "stop": "J"},
    {"skip_special_tokens": False, "ignore_eos": True},
    {"truncate_prompt_tokens": 3},
    {"prompt_logprobs": 2},
]


@every_strategy
@pytest.mark.parametrize("fields", IN_CHAT, ids=str)
async def test_chat(matrix: Matrix, strategy: str, fields: dict[str, Any]) -> None:
    """A chat request gets what a completions request gets for the prompt that the template makes."""
    messages = [{"role": "user", "content": "IJK"}]
    completed = await matrix.ask(body(strategy, prompt=matrix.chat_prompt(messages), **fields))
    layout: dict[str, Any] = {
        "prompt": None,
        "max_tokens": None,
        "max_completion_tokens": 8,
        "logprobs": True,
        "top_logprobs": 3,
    }
    asked = body(strategy, messages=messages, **layout, **fields)
    told = await matrix.ask(asked, "chat/completions")
    streamed = await matrix.ask({**asked, "stream": True}, "chat/completions")
    pieces = [choice for _, data in streamed.events for choice in data["choices"]]
    for chat, completion in zip(told.choices, completed.choices, strict=True):
        assert chat["message"]["content"] == completion["text"]
        for key in ("index", "finish_reason", "score", "inclusion_probability"):
            assert chat.get(key) == completion.get(key)
        content = chat["logprobs"]["content"]
        assert [one["logprob"] for one in content] == completion["logprobs"]["token_logprobs"]
        assert all(len(one["top_logprobs"]) == 3 for one in content)
        own = [piece["delta"].get("content", "") for piece in pieces if piece["index"] == chat["index"]]
        assert "".join(own) == completion["text"]


def test_every_field_has_its_cells() -> None:
    """Whatever a body may hold is in one of the tables here."""
    cells = {*OPTIONS, *FLAT_FIELDS, *STRATEGY_FIELDS, *STRUCTURED, "decoding", "model"}
    assert set(CompletionBody.model_fields) <= cells
    assert set(ChatBody.model_fields) <= cells | CHAT
    assert set(STRUCTURED) == set(STRUCTURED_FIELDS)
