"""Requests and outputs survive the trip between the processes exactly."""

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
from penstock_engine.outputs import StepOutput, TokenLogprobs, TokenOutput


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
    ],
)
def test_a_request_arrives_as_it_was_sent(fields: dict[str, object]) -> None:
    """Every parameter, with its type, under the id the engine gives it."""
    request = make_request("a", [1, 2, 28], fields, min_tokens=2, priority=-3, cache_salt="salt")
    message = TO_ENGINE.decode(ENCODER.encode(pack_request(7, request)))
    assert isinstance(message, Submit)
    assert message.handle == 7
    assert unpack_request(message, "a") == request


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
    plain = outputs[:1]
    message = FROM_ENGINE.decode(ENCODER.encode(pack_step(plain, EngineStats())))
    assert isinstance(message, Stepped)
    assert unpack_step(message) == plain


def test_foreign_bytes_are_an_error() -> None:
    """What is not a message is refused by the decoder, never executed."""
    with pytest.raises(msgspec.MsgspecError):
        TO_ENGINE.decode(b"\x80\x04\x95garbage")
