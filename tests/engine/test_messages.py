"""Requests and outputs survive the trip between the processes exactly."""

from dataclasses import replace

import msgspec
import pytest
from scripted_engine import make_request

from penstock_decoding.finish import Finish
from penstock_engine.config import EngineStats
from penstock_engine.messages import (
    ENCODER,
    FROM_ENGINE,
    TO_ENGINE,
    Stepped,
    Submit,
    pack_request,
    pack_step,
    unpack_request,
    unpack_step,
)
from penstock_engine.outputs import Fate, StepOutput, StepTrace, TokenLogprobs, TokenOutput, WatchedStep
from penstock_engine.request import PromptReading, StopConditions


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0},
        {"seed": -(2**63), "n": 3},
        {
            "temperature": 0.7,
            "top_k": 5,
            "top_p": 0.9,
            "min_p": 0.1,
            "logit_bias": {"3": -100, "4": 2.5},
            "min_tokens": 2,
        },
        {"decoding": {"strategy": "sample", "chain": [{"top_k": 3}, {"penalties": {"repetition": 1.2}}]}},
        {"num_logprobs": 0},
        {"num_processed_logprobs": 2, "chain_trace": True},
        {"num_beams": 4, "n": 2, "length_penalty": 0.5, "early_stopping": "never"},
    ],
)
def test_a_request_arrives_as_it_was_sent(fields: dict[str, object]) -> None:
    """Every parameter, with its type, under the id the engine gives it."""
    request = make_request("a", [1, 2, 28], fields, min_tokens=2, priority=-3, cache_salt="salt")
    message = TO_ENGINE.decode(ENCODER.encode(pack_request(7, request)))
    assert isinstance(message, Submit)
    assert message.handle == 7
    assert unpack_request(message, "a") == request
    for other in (
        replace(request, is_watched=True),
        replace(request, reading=PromptReading(3)),
        replace(request, reading=PromptReading(0, "mean"), stop=StopConditions(0)),
        replace(request, reading=PromptReading(pooling="last")),
    ):
        message = TO_ENGINE.decode(ENCODER.encode(pack_request(7, other)))
        assert isinstance(message, Submit)
        assert unpack_request(message, "a") == other


def test_a_steps_outputs_arrive_as_they_were_sent() -> None:
    """With and without log-probabilities, several answers, an answer's end, an output without tokens."""
    with_logprobs = TokenLogprobs(-0.25, ((3, -0.25), (1, -1.5)))
    outputs = [
        (5, StepOutput((TokenOutput(0, 2**17, Finish.OPEN), TokenOutput(2, 1, Finish.STOP)), False, 32)),
        (2**40, StepOutput((TokenOutput(0, 9, Finish.LENGTH, with_logprobs),), True, 0)),
        (6, StepOutput((TokenOutput(0, 9, Finish.OPEN, TokenLogprobs(-3.5, ())),), False, 0)),
        (7, StepOutput((), True, 1)),
    ]
    message = FROM_ENGINE.decode(ENCODER.encode(pack_step(outputs, EngineStats(num_running=3))))
    assert isinstance(message, Stepped)
    assert message.stats.num_running == 3
    assert unpack_step(message) == outputs
    trace = (StepTrace("temperature", 1.0, 500, 2.5, 1.25), StepTrace("top_k", 0.75, 3, 1.25, 0.5))
    watched = WatchedStep((4, 5), (0, 4), (7, 9), (-0.5, -2.0), (Fate.LIVE, Fate.DROPPED), (2,), ((0, 4),), (7, 8))
    searching = [
        *outputs[:1],
        (8, StepOutput((TokenOutput(1, 9, Finish.STOP, score=-1.5),), False)),
        (9, StepOutput((TokenOutput(0, 9, Finish.OPEN, None, with_logprobs, trace=trace),), False, 0, watched)),
        (10, StepOutput((TokenOutput(0, 9, Finish.STOP, None, None, -1.5, 0.25, ()),), True)),
        (11, StepOutput((), False, 0, replace(watched, tentative=None))),
    ]
    message = FROM_ENGINE.decode(ENCODER.encode(pack_step(searching, EngineStats())))
    assert isinstance(message, Stepped)
    arrived = unpack_step(message)
    assert arrived == searching
    assert all(type(fate) is Fate for _, output in arrived if output.watched for fate in output.watched.fate)
    plain = outputs[:1]
    message = FROM_ENGINE.decode(ENCODER.encode(pack_step(plain, EngineStats())))
    assert isinstance(message, Stepped)
    assert unpack_step(message) == plain
    assert not message.traces and not message.watched and not message.scores, "what nobody asked for takes no room"


def test_what_is_told_of_prompts_arrives_as_it_was_sent() -> None:
    """With and without tokens beside it, lists of any length, -inf, vectors; and nothing at all where nobody asked."""
    token = TokenOutput(0, 9, Finish.OPEN, TokenLogprobs(-0.5, ((2, -0.5),)))
    many = tuple((i, -i / 7) for i in range(70_000))
    outputs = [
        (3, StepOutput((), False, prompt_logprobs=(TokenLogprobs(-0.25, ((3, -0.25), (1, -1.5)), 1),) * 3)),
        (4, StepOutput((token,), False, 8)),
        (5, StepOutput((token,), False, 0, None, (TokenLogprobs(float("-inf"), (), 70_001),), b"\0\0\x80?" * 6)),
        (6, StepOutput((), True, embedding=b"\0\0\0@" * 6)),
        (7, StepOutput((), True, prompt_logprobs=(TokenLogprobs(-9.5, many, 2), TokenLogprobs(-1.0, (), 7)))),
    ]
    message = FROM_ENGINE.decode(ENCODER.encode(pack_step(outputs, EngineStats())))
    assert isinstance(message, Stepped)
    assert unpack_step(message) == outputs
    message = FROM_ENGINE.decode(ENCODER.encode(pack_step(outputs[1:2], EngineStats())))
    assert isinstance(message, Stepped)
    assert message.read is None and unpack_step(message) == outputs[1:2]
    message = FROM_ENGINE.decode(ENCODER.encode(pack_step(outputs[3:4], EngineStats())))
    assert isinstance(message, Stepped)
    assert unpack_step(message) == outputs[3:4]


def test_foreign_bytes_are_an_error() -> None:
    """What is not a message is refused by the decoder, never executed."""
    with pytest.raises(msgspec.MsgspecError):
        TO_ENGINE.decode(b"\x80\x04\x95garbage")
