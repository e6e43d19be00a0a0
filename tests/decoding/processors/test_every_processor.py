"""What holds for every processor of the table."""

import pytest
import torch
from decoding_rows import BUSY_PARAMS, NEVER, apply_asks, distinct_scores, kept, make_row, same_bits
from torch import Tensor

from penstock_decoding.processor import Ask, Stateful
from penstock_decoding.processors import PROCESSORS

NUM_ROWS = 8
VOCAB_SIZE = 300
every_processor = pytest.mark.parametrize("name", PROCESSORS)


def mixed_scores() -> Tensor:
    """Rows no processor may touch unasked hold what arithmetic would disturb: NaN, infinities, a negative zero."""
    scores = distinct_scores(NUM_ROWS, VOCAB_SIZE, seed=5)
    scores[1, :5] = torch.tensor([float("nan"), float("inf"), NEVER, -0.0, 1e-42])
    scores[4, 0] = -0.0
    return scores


def asks(name: str, rows: list[int]) -> list[Ask[object]]:
    return [Ask(make_row(i), BUSY_PARAMS[name](i)) for i in rows]


def test_all_are_tested() -> None:
    """A processor that joins the table also joins these tests."""
    assert set(BUSY_PARAMS) == set(PROCESSORS)


@every_processor
@pytest.mark.parametrize("rows", [[0], [7], [2, 3], [0, 2, 5], [0, 2, 3, 5, 6, 7]], ids=str)
def test_other_rows_keep_their_bits(name: str, rows: list[int]) -> None:
    """Rows that do not ask keep their values bit for bit; those that ask are changed."""
    before = mixed_scores()
    after = apply_asks(PROCESSORS[name](), asks(name, rows), before)
    for i in range(NUM_ROWS):
        assert same_bits(before[i], after[i]) is (i not in rows)


@every_processor
@pytest.mark.parametrize("rows", [[2, 3, 5], [5, 6, 7], [0, 2, 3, 5, 6, 7]], ids=str)
def test_alone_equals_mixed(name: str, rows: list[int]) -> None:
    """A row gets the same bits in a batch, beside rows with other parameters, as alone."""
    scores = mixed_scores()
    mixed = apply_asks(PROCESSORS[name](), asks(name, rows), scores)
    for i in rows:
        alone = apply_asks(PROCESSORS[name](), [Ask(make_row(0), BUSY_PARAMS[name](i))], scores[i : i + 1])
        assert same_bits(mixed[i], alone[0])


@every_processor
def test_excluded_tokens_stay_excluded(name: str) -> None:
    """After any processor a token excluded before is excluded still, and some token is left."""
    scores = distinct_scores(2, VOCAB_SIZE, seed=6)
    scores[:, ::2] = NEVER
    after = apply_asks(PROCESSORS[name](), asks(name, [0, 1]), scores)
    assert not (kept(after) & ~kept(scores)).any()
    assert after.amax(-1).isfinite().all()


@every_processor
def test_sequences_are_only_read(name: str) -> None:
    """Prompt and answer are the engine's live lists: no processor changes them."""
    prompt, output = [1, 2, 2], [3, 1]
    row = make_row(0, prompt=prompt, output=output)
    apply_asks(PROCESSORS[name](), [Ask(row, BUSY_PARAMS[name](0))], distinct_scores(1, VOCAB_SIZE, seed=7))
    assert (prompt, output) == ([1, 2, 2], [3, 1])


@every_processor
def test_unknown_slots_are_no_error(name: str) -> None:
    """Forking, rolling back and releasing a slot that never asked does nothing: most requests have no state."""
    processor = PROCESSORS[name]()
    if isinstance(processor, Stateful):
        processor.fork(5, 6)
        processor.rollback(5, 0)
        processor.release(5)
    before = distinct_scores(1, VOCAB_SIZE, seed=8)
    expected = apply_asks(PROCESSORS[name](), asks(name, [0]), before)
    assert same_bits(apply_asks(processor, asks(name, [0]), before), expected)
