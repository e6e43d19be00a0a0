"""`Watch`: what a watched request tells of its search, whatever shares the batch, and what nobody else pays for."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_engine import LIMITS, make_engine, make_request

from penstock_engine.engine import Engine, Failure
from penstock_engine.limits import Limits
from penstock_engine.outputs import Fate, StepOutput, WatchedStep
from penstock_engine.request import GenerationRequest

SEARCHES: list[dict[str, Any]] = [
    {"num_beams": 4, "n": 2},
    {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5, "early_stopping": True},
    {"decoding": {"strategy": "stochastic_beam", "width": 3}},
    {"decoding": {"strategy": "constrained_beam", "width": 4, "words": [[10, 11], [12]]}, "n": 2},
    {"best_of": 3},
    {"n": 3},
    {"temperature": 0},
]
ROOMY = replace(LIMITS, num_blocks=1024, max_batch_tokens=1024, max_rows=64)


def outputs_of(engine: Engine, name: str) -> list[StepOutput]:
    """What one request gets, until the engine has nothing more to do."""
    own = []
    while engine.has_work:
        for request_id, output in engine.step():
            assert not isinstance(output, Failure), output
            if request_id == name:
                own.append(output)
        engine.check()
    return own


def told(limits: Limits, request: GenerationRequest, *others: GenerationRequest) -> list[WatchedStep]:
    engine = make_engine(limits)
    for one in (*others, request):
        engine.add(one)
    watched = [output.watched for output in outputs_of(engine, request.id)]
    assert None not in watched
    return [one for one in watched if one is not None]


def search(name: str, fields: dict[str, Any], **more: Any) -> GenerationRequest:
    return replace(make_request(name, [1, 2, 28], {"seed": 4, **fields}, max_tokens=10, **more), is_watched=True)


@pytest.mark.parametrize("fields", SEARCHES, ids=json.dumps)
@given(others=st.lists(st.tuples(st.sampled_from(SEARCHES), st.integers(-1, 1)), min_size=1, max_size=3))
@settings(max_examples=8, deadline=None)
def test_mixed_and_preempted_equals_alone(fields: dict[str, Any], others: list[tuple[dict[str, Any], int]]) -> None:
    """A watch tells the same beside any neighbours and in a cache too small for all, which has it computed again."""
    tight = replace(LIMITS, num_blocks=26, max_rows=16)
    neighbours = [
        make_request(f"other {i}", [3 + i] * 9, {"seed": i, **beside}, priority=priority)
        for i, (beside, priority) in enumerate(others)
    ]
    assert told(tight, search("watched", fields), *neighbours) == told(ROOMY, search("watched", fields))


@pytest.mark.parametrize("fields", SEARCHES, ids=json.dumps)
def test_watching_changes_nothing_else(fields: dict[str, Any]) -> None:
    """A watched request gets the tokens that it gets unwatched; an unwatched one is told nothing and asks the sampler
    for nothing more."""
    watched, plain = make_engine(ROOMY), make_engine(ROOMY)
    watched.add(search("a", fields))
    plain.add(replace(search("a", fields), is_watched=False))
    ours, theirs = outputs_of(watched, "a"), outputs_of(plain, "a")
    bare = [
        output._replace(watched=None, tokens=tuple(token._replace(processed=None) for token in output.tokens))
        for output in ours
    ]
    assert bare == theirs
    assert all(token.processed is None for output in theirs for token in output.tokens)


def test_by_hand() -> None:
    """Two beams of a script with four tokens: what lives, what is complete, what is dropped, what is settled."""
    import numpy as np

    def script(prefix: Any) -> Any:
        logits = np.full(29, -30.0, np.float32)
        # 5 then 6 is likeliest, until 7 and then 8 turns out to be better.
        shares = {(1,): {5: 0.6, 7: 0.4}, (1, 5): {6: 0.5, 9: 0.5}, (1, 7): {8: 1.0}, (1, 7, 8): {10: 1.0}}
        for token, share in shares.get(tuple(prefix), {0: 1.0}).items():
            logits[token] = np.log(share)
        return logits

    engine = make_engine(ROOMY, script)
    engine.add(replace(make_request("a", [1], {"num_beams": 2}, max_tokens=4), is_watched=True))
    first, second, third, *_ = [output.watched for output in outputs_of(engine, "a") if output.watched]
    assert (first.parent, first.token_id, first.fate) == ((0, 0), (5, 7), (Fate.LIVE, Fate.LIVE))
    assert first.score == pytest.approx((np.log(0.6), np.log(0.4)), abs=1e-5)
    assert (first.tentative, first.settled, first.dropped) == ((5,), (), ())
    # 7 8 is now the best with 0.4, before 5 6 with 0.3.
    assert (second.node, second.parent, second.token_id) == ((3, 4), (2, 1), (8, 6))
    assert second.tentative == (7, 8)
    # Of 5 6 the end is complete; 7 8 goes on alone, with it.
    assert Fate.COMPLETE in third.fate and 10 in third.token_id
    assert third.tentative == (7, 8, 10)


@pytest.mark.parametrize("fields", SEARCHES, ids=json.dumps)
def test_nothing_is_kept_of_what_is_forgotten(fields: dict[str, Any]) -> None:
    """A watch's books are as large as the search's own tree, however long it runs, and hold the nodes that were never
    told to be dropped."""
    engine = make_engine(ROOMY)
    alive: set[int] = set()
    # Many tokens can end an answer and long ones are better, so that many are complete and most of those dropped again.
    ends, more = ((0, 7, 14, 21, 28), {"length_penalty": 4.0}) if "num_beams" in fields else ((), {})
    searching = make_request("a", [1], fields | more, max_tokens=40, stop_token_ids=ends)
    engine.add(replace(searching, is_watched=True))
    fates: set[Fate] = set()
    while True:
        [(_, output)] = engine.step()
        assert not isinstance(output, Failure) and output.watched is not None
        fates.update(output.watched.fate)
        if output.is_last:
            break
        told = output.watched
        alive |= {node for node, fate in zip(told.node, told.fate, strict=True) if fate is not Fate.DROPPED}
        alive -= set(told.dropped)
        group = engine._groups["a"]
        watch, strategy = group.watch, group.strategy._strategy  # the guarded one
        assert watch is not None
        tree = getattr(strategy, "_tree", None) or getattr(getattr(strategy, "_answers", None), "_tree", None)
        assert (tree is None) == ("best_of" not in fields and strategy.max_live in (1, 3) and "decoding" not in fields)
        num_nodes = 0 if tree is None else tree.num_nodes - 1
        assert len(watch._by_branch) == len(watch._token_and_parent) == num_nodes
        assert tree is None or alive == set(watch._by_branch.values())
        assert len(watch._live) == len(group.rows)
    if fields == SEARCHES[0]:
        assert fates == set(Fate), "the search that the test needs"


def test_a_dropped_answer() -> None:
    """An answer that the caller gives up is told of in the next step, and the others go on under their own nodes."""
    engine = make_engine(ROOMY)
    engine.add(search("a", {"n": 3}, stop_token_ids=()))
    [(_, first)] = engine.step()
    engine.abort("a", 1)
    [(_, second)] = engine.step()
    assert not isinstance(first, Failure) and not isinstance(second, Failure)
    assert first.watched is not None and second.watched is not None
    assert first.watched.settled == ((0, 1), (1, 2), (2, 3))
    assert (second.watched.dropped, second.watched.parent, second.watched.node) == ((2,), (1, 3), (4, 5))
    assert second.watched.settled == ((0, 4), (2, 5)) and second.watched.tentative is None
