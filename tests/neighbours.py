"""Requests that are well, beside one that breaks down: they get what they get alone."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from scripted_engine import LIMITS, VOCAB_SIZE, Answers, make_request, noise, run_alone

from penstock_decoding.catalogue import Catalogue
from penstock_decoding.params import read_decoding
from penstock_engine.engine import Engine, Failure
from penstock_engine.request import GenerationRequest
from penstock_engine.scripted import ScriptedRunner

# One of every kind that shares a step with a broken one.
NEIGHBOURS: dict[str, dict[str, object]] = {
    "greedy": {"temperature": 0},
    "sample": {"n": 2, "seed": 5, "temperature": 1.3, "top_k": 7, "repetition_penalty": 1.2},
    "beam": {"decoding": {"strategy": "beam", "width": 3}, "num_logprobs": 1},
    "without_replacement": {"decoding": {"strategy": "stochastic_beam", "width": 2}, "seed": 3},
}
ROOMY = replace(LIMITS, max_rows=64, num_blocks=1024, max_batch_tokens=64)


def neighbours() -> list[GenerationRequest]:
    return [make_request(name, [3 + i, 4, 5], fields) for i, (name, fields) in enumerate(NEIGHBOURS.items())]


def asking(catalogue: Catalogue, name: str, **decoding: object) -> GenerationRequest:
    """A request of at most eight tokens with such a `decoding`."""
    request = make_request(name, [1, 2, len(name)], {})
    return replace(
        request, decoding=read_decoding({"decoding": decoding, "seed": 9}, vocab_size=VOCAB_SIZE, catalogue=catalogue)
    )


def engine_with(catalogue: Catalogue) -> Engine:
    runner = ScriptedRunner(noise, num_blocks=ROOMY.num_blocks, block_size=ROOMY.block_size)
    return Engine(runner, ROOMY, catalogue=catalogue)


def run(engine: Engine, requests: Sequence[GenerationRequest]) -> tuple[Answers, dict[str, str]]:
    """The answers, and the messages of the requests that failed."""
    answers: Answers = {}
    failures: dict[str, str] = {}
    for request in requests:
        engine.add(request)
    while engine.has_work:
        for name, output in engine.step():
            if isinstance(output, Failure):
                failures[name] = output.message
            else:
                for token in output.tokens:
                    answers.setdefault((name, token.choice), []).append(token)
        engine.check()
    return answers, failures


@cache
def alone(name: str) -> Answers:
    """What the neighbour of that name gets by itself. A request's answer depends on nothing else, so once is enough."""
    return run_alone(next(request for request in neighbours() if request.id == name))


def assert_neighbours_never_noticed(answers: Answers) -> None:
    for name in NEIGHBOURS:
        assert {key: tokens for key, tokens in answers.items() if key[0] == name} == alone(name)
