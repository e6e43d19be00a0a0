"""Force end."""

import pytest
import torch
from decoding_rows import NEVER, apply_asks, distinct_scores, kept, make_row
from scripted_engine import make_engine, make_request, run_all, token_ids
from transformers.generation.logits_process import ForcedEOSTokenLogitsProcessor

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.force_end import MAX_AFTER, ForceEnd, ForceEndParams
from penstock_engine.errors import RequestRefused
from penstock_engine.outputs import Finish

VOCAB_SIZE = 20


@pytest.mark.parametrize("stops", [(9,), (0, 9)])
@pytest.mark.parametrize("num_generated", [0, 1, 2, 3])
def test_equals_transformers(stops: tuple[int, ...], num_generated: int) -> None:
    """At the last token that `max_new_tokens` allows, the same tokens are left as there, and nothing changes before;
    with one stop token, that is the same distribution."""
    after, prompt, output = 3, (1, 2, 2), (4,) * num_generated
    scores = distinct_scores(1, VOCAB_SIZE, seed=1)
    theirs = ForcedEOSTokenLogitsProcessor(len(prompt) + after + 1, list(stops))
    expected = theirs(torch.tensor([[*prompt, *output]]), scores)
    ask = Ask(make_row(0, prompt=prompt, output=output, stop_token_ids=stops), ForceEndParams(after))
    ours = apply_asks(ForceEnd(), [ask], scores)
    assert torch.equal(kept(ours), kept(expected))
    assert torch.equal(ours[kept(ours)], scores[kept(ours)])
    if len(stops) == 1:
        assert torch.equal(ours.softmax(-1), expected.softmax(-1))


def test_waits_until_an_end_is_possible() -> None:
    """Where every stop token is excluded already the row is left alone, and forced in the first step where one is not;
    a row with nothing left stays so."""
    scores = torch.zeros(4, 5)
    scores[0, 1:3] = NEVER
    scores[1, 1] = NEVER
    scores[2] = NEVER
    asks = [Ask(make_row(i, output=(4,) * 7, stop_token_ids=(1, 2)), ForceEndParams(3)) for i in range(3)]
    after = apply_asks(ForceEnd(), asks, scores)
    assert torch.equal(after[0], scores[0])
    assert after[1].tolist() == [NEVER, NEVER, 0, NEVER, NEVER]
    assert after[2].tolist() == [NEVER] * 5
    assert torch.equal(after[3], scores[3])


def test_costs_nothing_before() -> None:
    """Short rows, and rows without a stop token, give no plan."""
    asks = [
        Ask(make_row(0, output=(4, 4), stop_token_ids=(1,)), ForceEndParams(3)),
        Ask(make_row(1, output=(4,) * 9, stop_token_ids=()), ForceEndParams(3)),
    ]
    assert ForceEnd().plan(asks) is None


@pytest.mark.parametrize("strategy", [{"strategy": "sample", "n": 3}, {"strategy": "greedy"}])
def test_through_the_engine(strategy: dict[str, object]) -> None:
    """Every answer ends by a stop token, at the latest as the token after `after`; beside one that is not forced."""
    fields = {"decoding": strategy | {"chain": [{"force_end": 4}]}, "seed": 1}
    answers = run_all(
        make_engine(),
        [
            make_request("a", [3, 4], fields, max_tokens=20, stop_token_ids=(28, 0)),
            make_request("b", [3, 4], {"temperature": 0}, max_tokens=20, stop_token_ids=()),
        ],
    )
    for (request_id, _), answer in answers.items():
        if request_id == "a":
            assert len(answer) <= 5 and answer[-1].token_id in (28, 0)
            assert (answer[-1].finish, token_ids(answer)[:-1].count(0)) == (Finish.STOP, 0)
        else:
            assert len(answer) == 20
    assert any(len(answer) == 5 for (request_id, _), answer in answers.items() if request_id == "a")


def test_no_way_to_end() -> None:
    """Without a stop token, or with one that comes too late, the request is refused by name."""
    fields = {"decoding": {"chain": [{"force_end": 4}]}}
    for conditions in ({"stop_token_ids": ()}, {"min_tokens": 5}):
        with pytest.raises(RequestRefused) as caught:
            make_engine().add(make_request("a", [3, 4], fields, max_tokens=20, **conditions))
        assert caught.value.param == "force_end.after"


@pytest.mark.parametrize("after", [-1, MAX_AFTER + 1])
def test_range(after: int) -> None:
    """A length out of range is refused by name."""
    with pytest.raises(ParameterError) as caught:
        ForceEndParams(after)
    assert caught.value.param == "after"
