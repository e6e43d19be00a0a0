"""The null model: no weights and no waiting, and all that decoding can do."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from decoding_requests import requests
from scripted_engine import LIMITS, make_request

from penstock_decoding.draws import BestTokens, RowDraw, SampledTokens
from penstock_decoding.grammar.vocabulary import Vocabulary
from penstock_decoding.params import Step, read_decoding
from penstock_decoding.processor import Row
from penstock_decoding.sample_row import SampleRow
from penstock_decoding.sampler import Sampler
from penstock_engine.batch import Batch, Entry
from penstock_engine.config import EngineConfig
from penstock_engine.engine import Engine
from penstock_engine.errors import EngineStartError
from penstock_engine.llm import LLM
from penstock_engine.null_model import NullRunner, spoken_token
from penstock_engine.outputs import Finish, StepOutput
from penstock_server.serve import DEMO_MODEL
from penstock_server.text.codec import TextCodec

CONFIG = EngineConfig(model=f"null:{DEMO_MODEL}", threads=1)
TOKEN = 7


@pytest.fixture(scope="module")
def llm() -> LLM:
    return LLM(CONFIG, TextCodec.load(DEMO_MODEL))


def test_it_says_one_word_for_each_token(llm: LLM) -> None:
    (result,) = llm.generate(["Once upon a time"], {"temperature": 0}, max_tokens=5, progress=False)
    words = result.answers[0].text.split(" ")
    assert words[0] == "" and len(words) == 6 and len(set(words[1:])) == 1 and words[1].isalpha()
    assert llm.info.num_parameters == 0 and llm.info.max_rows == 1024


@pytest.mark.parametrize("fields", [{"temperature": 1.0}, {"temperature": 1.0, "top_p": 0.9, "top_k": 20}])
def test_sampling_says_the_same(llm: LLM, fields: dict[str, Any]) -> None:
    (greedy,) = llm.generate(["x"], {"temperature": 0}, max_tokens=20, progress=False)
    (sampled,) = llm.generate(["x"], fields | {"seed": 3}, max_tokens=20, progress=False)
    assert sampled.answers[0].token_ids == greedy.answers[0].token_ids


@pytest.mark.parametrize("name", list(requests()))
def test_every_strategy_and_processor_works_on_it(llm: LLM, name: str) -> None:
    """Searches and chains go the ordinary way, over its logits; nothing is left of them in the engine."""
    body = requests()[name]
    fields = {"decoding": body["decoding"], "seed": body["seed"]}
    (result,) = llm.generate([body["prompt"]], fields, max_tokens=body["max_tokens"], progress=False)
    assert result.answers and all(answer.token_ids for answer in result.answers)
    assert all(answer.finish_reason in ("stop", "length") for answer in result.answers)
    llm._engine.check()
    assert not llm._engine.has_work


ROW = Row(0, 0, (1, 2), (3,), (), 5)
PENALTY = Step("penalties", read_decoding({"repetition_penalty": 1.3}, vocab_size=32).chain[0].params)


@pytest.mark.parametrize(
    ("draw", "asked", "is_taken"),
    [
        (BestTokens(), {}, True),
        (BestTokens(2), {}, False),
        (SampledTokens((0,)), {}, False),
        (BestTokens(), {"num_logprobs": 0}, False),
        (BestTokens(), {"num_processed_logprobs": 0}, False),
        (BestTokens(), {"chain_trace": True}, False),
        (BestTokens(), {"chain": (PENALTY,)}, False),
    ],
)
def test_a_launched_row_gets_what_the_sampler_gives_it(draw: RowDraw, asked: dict[str, Any], is_taken: bool) -> None:
    runner = NullRunner(32, TOKEN, hidden_size=4)
    row = replace(SampleRow(ROW, (), draw), **asked)
    assert runner.takes(row) is is_taken
    if not is_taken:
        return
    engine = Engine(runner, replace(LIMITS, vocab_size=32))
    engine.add(make_request("a", [1, 2], {"temperature": 0}))
    engine.step()
    (group,) = engine._scheduler.running
    batch = Batch((Entry(group, group.rows[0], 1),), copies=())
    (launched,) = runner.launch(batch, [row]).draws()
    (sampled,) = Sampler().sample(runner.forward(batch), [row])
    assert launched.tokens.tolist() == sampled.tokens.tolist() == [TOKEN]


def test_most_of_an_answer_s_steps_are_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was built to cost nothing: one ordinary step for the prompt, none for the other tokens."""
    num_forwards = 0
    forward = NullRunner.forward

    def counted(self: NullRunner, batch: Batch) -> torch.Tensor:
        nonlocal num_forwards
        num_forwards += 1
        return forward(self, batch)

    monkeypatch.setattr(NullRunner, "forward", counted)
    engine = Engine(NullRunner(32, TOKEN, hidden_size=4), replace(LIMITS, vocab_size=32))
    for i in range(4):
        engine.add(make_request(f"r{i}", [1, 2], {"temperature": 0}, max_tokens=9))
    tokens: list[tuple[int, Finish]] = []
    while engine.has_work:
        for _, output in engine.step():
            assert isinstance(output, StepOutput)
            tokens += [(token.token_id, token.finish) for token in output.tokens]
        engine.check()
    assert tokens == [(TOKEN, Finish.OPEN)] * 32 + [(TOKEN, Finish.LENGTH)] * 4
    assert num_forwards == 1


@pytest.mark.parametrize(
    "asked",
    [
        {"weights": "int8"},
        {"kv_cache_dtype": "int8"},
        {"kv_cache_memory": 2**20},
        {"batch_invariant": True},
        {"overlap": False},
        {"cuda_graphs": False},
        {"device": "cuda"},
        {"kernels": "fused"},
        {"max_batch_tokens": 4, "max_rows": 8},
    ],
)
def test_what_only_a_model_has_is_refused_by_name(asked: dict[str, Any]) -> None:
    with pytest.raises(EngineStartError, match=next(iter(asked))):
        LLM(replace(CONFIG, **asked))


def test_the_word_is_a_token_of_letters_that_ends_nothing() -> None:
    vocabulary = Vocabulary((b"a", b" .", b" A", b" x", b" of", b" the"))
    assert spoken_token(vocabulary, (), 6) == 4
    assert spoken_token(vocabulary, (4,), 6) == 5
    assert spoken_token(vocabulary, (4,), 5) == 2, "of none there is: the middle of the vocabulary"
    assert spoken_token(None, (), 100) == 50


def test_embeddings_of_it_are_ones(llm: LLM) -> None:
    assert llm.embed(["a b c"], progress=False).tolist() == [[1.0] * llm.info.hidden_size]
