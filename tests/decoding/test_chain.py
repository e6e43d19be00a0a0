"""`merge_chains`: one list of stages for rows with different chains."""

from collections.abc import Sequence

import pytest
import torch
from decoding_rows import apply_chains, busy_step, distinct_scores, make_row, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_decoding.chain import Stage, merge_chains
from penstock_decoding.params import Step
from penstock_decoding.processor import Ask, Row
from penstock_decoding.processors import DEFAULT_ORDER

Orders = list[list[str]]
ANY_ORDERS = st.lists(
    st.permutations(DEFAULT_ORDER).flatmap(lambda names: st.integers(0, len(names)).map(lambda k: names[:k])),
    max_size=6,
)
DEFAULT_ORDERS = st.lists(
    st.sets(st.sampled_from(DEFAULT_ORDER)).map(lambda names: sorted(names, key=DEFAULT_ORDER.index)), max_size=6
)


def chained(orders: Orders) -> list[tuple[Row, Sequence[Step]]]:
    """Row i with the processors `orders[i]`, whose parameters differ from every other row's."""
    return [(make_row(i), [busy_step(name, i) for name in order]) for i, order in enumerate(orders)]


def names(stages: list[Stage]) -> list[str]:
    return [stage.processor for stage in stages]


@given(ANY_ORDERS)
@settings(max_examples=200, deadline=None)
def test_every_row_meets_its_own_chain(orders: Orders) -> None:
    """Every row meets each processor of its chain once, in its order, with its own parameters, and no other."""
    rows = chained(orders)
    met: list[list[tuple[str, Ask[object]]]] = [[] for _ in rows]
    for stage in merge_chains(rows):
        assert stage.asks
        indices = [ask.row.index for ask in stage.asks]
        assert indices == sorted(set(indices))
        for ask in stage.asks:
            met[ask.row.index].append((stage.processor, ask))
    for asks, (row, chain) in zip(met, rows, strict=True):
        assert [(name, ask.params) for name, ask in asks] == [(step.name, step.params) for step in chain]
        assert all(ask.row is row for _, ask in asks)


@given(DEFAULT_ORDERS)
@settings(max_examples=100, deadline=None)
def test_default_orders_share_one_stage_a_processor(orders: Orders) -> None:
    """Rows with parts of the default chain cost one stage per processor that any of them asks for."""
    used = {name for order in orders for name in order}
    assert names(merge_chains(chained(orders))) == [name for name in DEFAULT_ORDER if name in used]


@given(ANY_ORDERS)
@settings(max_examples=100, deadline=None)
def test_merging_never_costs_more_than_rows_apart(orders: Orders) -> None:
    """There are at most as many stages as different chains have steps together."""
    assert len(merge_chains(chained(orders))) <= sum(map(len, {tuple(order) for order in orders}))


def test_equal_custom_orders_share_stages() -> None:
    """Rows that chose the same order cost what one of them costs."""
    order = ["top_k", "temperature", "penalties"]
    assert names(merge_chains(chained([order] * 4))) == order


def test_one_custom_order_beside_the_default() -> None:
    """A row that swaps two processors costs one more stage, not a second pass."""
    default = ["penalties", "temperature", "top_k", "min_p"]
    swapped = ["penalties", "top_k", "temperature", "min_p"]
    stages = merge_chains(chained([default, swapped, default]))
    assert len(stages) == 5
    assert [ask.row.index for ask in stages[0].asks] == [0, 1, 2]
    assert [ask.row.index for ask in stages[-1].asks] == [0, 1, 2]


def test_unknown_processors_have_a_place() -> None:
    """A processor outside the default order, as a plug-in brings it, takes its turn where its row wants it."""
    rows = [(make_row(0), [Step("of_a_plugin", None), busy_step("top_k")]), (make_row(1), [busy_step("top_k")])]
    stages = merge_chains(rows)
    assert names(stages) == ["of_a_plugin", "top_k"]
    assert [ask.row.index for ask in stages[1].asks] == [0, 1]


@pytest.mark.parametrize("orders", [[], [[]], [[], []]], ids=str)
def test_no_chain_no_stage(orders: Orders) -> None:
    """Rows without a chain cost nothing."""
    assert merge_chains(chained(orders)) == []


@given(orders=ANY_ORDERS.filter(bool), seed=st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_alone_equals_mixed(orders: Orders, seed: int) -> None:
    """A row with its own order gets the same bits beside rows with other orders as alone."""
    scores = distinct_scores(len(orders), 97, seed)
    mixed = apply_chains(chained(orders), scores)
    for i, order in enumerate(orders):
        alone = apply_chains([(make_row(0), [busy_step(name, i) for name in order])], scores[i : i + 1])
        assert same_bits(mixed[i], alone[0])


def test_order_matters() -> None:
    """Top-p before and after a temperature are different distributions: the caller's order is not decoration."""
    scores = distinct_scores(2, 97, seed=1)[:1].repeat(2, 1)
    after = apply_chains(
        [
            (make_row(0), [busy_step("temperature"), busy_step("top_p")]),
            (make_row(1), [busy_step("top_p"), busy_step("temperature")]),
        ],
        scores,
    )
    assert not torch.equal(after[0].isfinite(), after[1].isfinite())
