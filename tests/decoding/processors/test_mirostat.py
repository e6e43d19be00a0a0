"""Mirostat, both versions, and the memory behind it."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from decoding_rows import NEVER, apply_asks, distinct_scores, kept, make_row, same_bits, sample_row
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from truncation_oracles import Row, assert_truncated, float64, law, mirostat_1_rank, mirostat_2_slack

from penstock_decoding.errors import ParameterError
from penstock_decoding.params import Step
from penstock_decoding.processor import Ask
from penstock_decoding.processors.mirostat import FIRST_LOOK, Mirostat, MirostatParams
from penstock_decoding.processors.surprise_control import SurpriseControl, Surprises
from penstock_decoding.sampler import Sampler

VOCAB_SIZE = 400
NUM_PROMPT = 4
BOTH = pytest.mark.parametrize("version", [1, 2])


def scores_after(output: Sequence[int], spread: float = 2.0) -> Tensor:
    """One row of scores that the answer so far decides."""
    return distinct_scores(
        1, VOCAB_SIZE, seed=sum((i + 1) * (token + 1) for i, token in enumerate(output)), spread=spread
    )


def ask(output: Sequence[int], params: MirostatParams, index: int = 0, slot: int = 0) -> Ask[MirostatParams]:
    return Ask(make_row(index, slot=slot, prompt=range(NUM_PROMPT), output=output), params)


def processed(processor: Mirostat, output: Sequence[int], params: MirostatParams, slot: int = 0) -> Tensor:
    """What mirostat makes of the one row that these tokens lead to."""
    return apply_asks(processor, [ask(output, params, slot=slot)], scores_after(output))[0]


def kept_by_definition(scores: Row, mu: float, version: int) -> Row:
    """The scores that stay, the others excluded, in float64."""
    if version == 2:
        return np.where(mirostat_2_slack(scores, mu) > 0, scores, NEVER)
    num_kept = max(int(min(mirostat_1_rank(scores, mu), len(scores))), 1)
    return np.where(scores >= np.sort(scores)[-num_kept], scores, NEVER)


def mu_by_definition(output: Sequence[int], params: MirostatParams, unseen: Sequence[int] = ()) -> float:
    """The control loop run over a whole answer; the tokens at the places `unseen` came from elsewhere."""
    mu = 2 * params.target
    for place, token in enumerate(output):
        scores = kept_by_definition(float64(scores_after(output[:place])[0]), mu, params.version)
        probability = law(scores)[token]
        if place not in unseen and probability > 0:
            mu -= params.rate * (-math.log2(probability) - params.target)
    return mu


def assert_step(after: Tensor, output: Sequence[int], params: MirostatParams, unseen: Sequence[int] = ()) -> None:
    """The step after these tokens is what the definition says."""
    before, mu = scores_after(output)[0], mu_by_definition(output, params, unseen)
    if params.version == 2:
        assert_truncated(after, before, mirostat_2_slack(float64(before), mu), rounding=1e-4)
        return
    rank = min(mirostat_1_rank(float64(before), mu), VOCAB_SIZE)
    counts = {max(int(rank * (1 + margin)), 1) for margin in (-1e-5, 1e-5)}
    assert int(kept(after).sum()) in counts
    assert torch.equal(after[kept(after)], before[kept(after)])
    assert (before[~kept(after)] < before[kept(after)].amin()).all()


def live(processor: Mirostat, output: list[int], params: MirostatParams, seed: int, slot: int = 0) -> None:
    """One step: the processor's plan, and one of the tokens left is appended."""
    after = processed(processor, output, params, slot)
    output.append(int(np.random.default_rng(seed).choice(VOCAB_SIZE, p=law(float64(after)))))


@BOTH
@pytest.mark.parametrize(("target", "rate"), [(2.0, 0.3), (5.0, 0.1), (0.5, 1.0), (8.0, 0.05)])
def test_definition(version: int, target: float, rate: float) -> None:
    """Over a whole answer, every step keeps what the definition in float64 keeps."""
    processor, output, params = Mirostat(), list[int](), MirostatParams(version, target, rate)
    for step in range(25):
        assert_step(processed(processor, output, params), output, params)
        live(processor, output, params, seed=step)


def test_version_2_by_hand() -> None:
    """Probabilities 1/2, 1/4, 1/8, 1/8 surprise by 1, 2, 3 and 3 bits. A target of 1.25 begins with mu = 2.5: two stay,
    with 2/3 and 1/3. The second then surprised by log2 3 = 1.585 bits, and mu becomes 2.5 - (1.585 - 1.25) = 2.165; had
    it been the first, 0.585 bits, mu would be 3.165, and all would stay."""
    scores, params = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log(), MirostatParams(2, 1.25, 1.0)
    for token, num_kept in ((1, 2), (0, 4)):
        processor, output = Mirostat(), list[int]()
        first = apply_asks(processor, [ask(output, params)], scores)
        output.append(token)
        second = apply_asks(processor, [ask(output, params)], scores)
        assert [int(kept(step).sum()) for step in (first, second)] == [2, num_kept]


@pytest.mark.parametrize("exponent", [0.5, 0.999, 1.0, 1.3, 3.0])
def test_version_1_by_hand(exponent: float) -> None:
    """Scores that follow Zipf's law are fitted with its very exponent s, and k is that of the formula; for s = 1 it is
    2**mu / log N."""
    scores = -exponent * torch.arange(1, 5001, dtype=torch.float64).log()
    for mu in (1.0, 4.0, 9.0, 11.0):
        params = MirostatParams(1, mu / 2)
        after = apply_asks(Mirostat(), [ask((), params)], scores.float()[None])
        share = (exponent - 1) / (1 - 5000.0 ** (1 - exponent)) if exponent != 1 else 1 / math.log(5000)
        rank = min((2**mu * share) ** (1 / exponent), 5000)
        counts = {max(int(rank * (1 + margin)), 1) for margin in (-1e-3, 1e-3)}
        assert int(kept(after).sum()) in range(min(counts), max(counts) + 1)


def test_version_1_wider_than_the_first_look() -> None:
    """A k beyond what is selected at first keeps that many, and changes nothing for a narrow row beside it."""
    scores = torch.cat([distinct_scores(1, 3000, seed=s, spread=spread) for s, spread in enumerate((0.4, 3.0, 0.8))])
    params = [MirostatParams(1, 5.75), MirostatParams(1, 1.0), MirostatParams(1, 5.8)]
    together = apply_asks(Mirostat(), [ask((), p, i, i) for i, p in enumerate(params)], scores)
    assert (kept(together).sum(-1) > FIRST_LOOK).tolist() == [True, False, True]
    for i, asked in enumerate(params):
        rank = min(mirostat_1_rank(float64(scores[i]), 2 * asked.target), 3000)
        assert int(kept(together[i]).sum()) == pytest.approx(rank, abs=1 + rank / 1000)
        assert same_bits(together[i], apply_asks(Mirostat(), [ask((), asked)], scores[i : i + 1])[0])


@BOTH
@pytest.mark.parametrize("target", [2.0, 4.0])
def test_surprise_settles_at_the_target(version: int, target: float) -> None:
    """2000 tokens sampled from ever new distributions surprise by the target on average: the sum of all errors is what
    mu has moved by, so the mean error is at most |mu's change| / (rate * 2000), here below 0.1 bits."""
    sampler, output = Sampler(), list[int]()
    chain = (Step("mirostat", MirostatParams(version, target, 0.2)),)
    generator = torch.Generator().manual_seed(3)
    surprises = []
    for _ in range(2000):
        scores = torch.randn(1, 300, generator=generator) * 2
        row = sample_row(0, chain=chain, output=output, seed=11, num_processed_logprobs=0)
        (draws,) = sampler.sample(scores, [row])
        assert draws.processed is not None
        surprises.append(-draws.processed.chosen[0] / math.log(2))
        output.append(int(draws.tokens[0]))
    assert np.mean(surprises) == pytest.approx(target, abs=0.1)


@BOTH
def test_catches_up_after_steps_without_a_plan(version: int) -> None:
    """Tokens that nobody offered, appended by another hand or several at once, leave mu as it was; the one that was
    offered before them counts."""
    processor, output, params = Mirostat(), [7], MirostatParams(version, 3.0, 0.5)
    live(processor, output, params, seed=1)
    output += [5, 6, 7]
    assert_step(processed(processor, output, params), output, params, unseen=(0, 2, 3, 4))


@BOTH
def test_a_token_that_was_excluded_teaches_nothing(version: int) -> None:
    """A token that a later hand forced against the truncation has no surprise; mu stays, finite."""
    processor, params = Mirostat(), MirostatParams(version, 1.0, 0.5)
    worst = int(processed(processor, [], params).argmin())
    assert_step(processed(processor, [worst], params), [worst], params, unseen=(0,))


@BOTH
def test_planned_twice_at_one_place(version: int) -> None:
    """A step that is planned again before its token is appended offers anew; the token counts once."""
    processor, output, params = Mirostat(), list[int](), MirostatParams(version, 3.0, 0.5)
    processed(processor, output, params)
    live(processor, output, params, seed=2)
    assert_step(processed(processor, output, params), output, params)


@BOTH
def test_forks_are_independent(version: int) -> None:
    """After a fork each sequence looks its own token up in the step that both come from, also if the source is over."""
    processor, params = Mirostat(), MirostatParams(version, 3.0, 1.0)
    outputs: dict[int, list[int]] = {0: []}
    live(processor, outputs[0], params, seed=3)
    offered = processed(processor, outputs[0], params)
    for slot, token in ((1, 1), (2, 2)):
        processor.fork(0, slot)
        outputs[slot] = [*outputs[0], int(offered.topk(8).indices[token])]
    outputs[0].append(int(offered.argmax()))
    processor.release(0)
    for slot in (2, 1):
        live(processor, outputs[slot], params, seed=4, slot=slot)
        assert_step(processed(processor, outputs[slot], params, slot), outputs[slot], params)
    assert mu_by_definition(outputs[1], params) != mu_by_definition(outputs[2], params)


@BOTH
def test_rollback_restores_mu(version: int) -> None:
    """Cut back to any length, the answer goes on as if the cut tokens had never been."""
    for num_kept in range(6):
        processor, output, params = Mirostat(), list[int](), MirostatParams(version, 3.0, 0.7)
        for step in range(6):
            live(processor, output, params, seed=step)
        del output[num_kept:]
        processor.rollback(0, num_kept)
        assert_step(processed(processor, output, params), output, params)
        live(processor, output, params, seed=99)
        assert_step(processed(processor, output, params), output, params)


@BOTH
def test_rollback_forgets_what_was_offered(version: int) -> None:
    """A step that was offered after tokens since cut says nothing of a token that another hand puts in its place."""
    processor, output, params = Mirostat(), list[int](), MirostatParams(version, 3.0, 0.7)
    for step in range(3):
        live(processor, output, params, seed=step)
    cut = output[1:]
    del output[1:]
    processor.rollback(0, 1)
    output += [cut[0] + 1, cut[1]]
    assert_step(processed(processor, output, params), output, params, unseen=(1, 2))


@BOTH
def test_rollback_to_before_it_began(version: int) -> None:
    """Cut back to where it was not asked yet, it begins again."""
    processor, output, params = Mirostat(), [1, 2, 3], MirostatParams(version, 3.0, 0.7)
    for step in range(3):
        live(processor, output, params, seed=step)
    del output[1:]
    processor.rollback(0, 1)
    assert_step(processed(processor, output, params), output, params, unseen=(0,))


@BOTH
def test_released_slot_is_reused(version: int) -> None:
    """The next sequence in a slot begins with mu = 2 * target."""
    processor, output, params = Mirostat(), list[int](), MirostatParams(version, 3.0, 0.7)
    for step in range(4):
        live(processor, output, params, seed=step, slot=6)
    processor.release(6)
    assert_step(processed(processor, [], params, slot=6), [], params)


@given(
    version=st.sampled_from([1, 2]),
    edits=st.lists(
        st.tuples(st.sampled_from(["live", "live", "rollback", "fork", "append"]), st.integers(0, 9)), max_size=14
    ),
)
@settings(max_examples=40, deadline=None)
def test_any_life(version: int, edits: list[tuple[str, int]]) -> None:
    """Whatever is drawn, appended by others, cut back and forked: mu is that of the definition for every sequence."""
    processor, params = Mirostat(), MirostatParams(version, 2.5, 0.6)
    outputs: dict[int, list[int]] = {0: []}
    unseen: dict[int, set[int]] = {0: set()}
    processed(processor, [], params)
    for i, (kind, number) in enumerate(edits):
        slot = i % len(outputs)
        output = outputs[slot]
        match kind:
            case "live":
                live(processor, output, params, seed=number, slot=slot)
            case "append":
                processed(processor, output, params, slot)  # so that the first token is one that was offered
                output += [number % VOCAB_SIZE, number + 1]
                unseen[slot].add(len(output) - 1)
            case "rollback":
                del output[number:]
                processor.rollback(slot, len(output))
                unseen[slot] = {place for place in unseen[slot] if place < len(output)}
            case "fork":
                target = len(outputs)
                outputs[target], unseen[target] = list(output), set(unseen[slot])
                processor.fork(slot, target)
    for slot, output in outputs.items():
        assert_step(processed(processor, output, params, slot), output, params, tuple(unseen[slot]))


def test_mixed_equals_alone() -> None:
    """Rows of both versions, at different lengths and targets, get in one batch the bits that each gets alone."""
    params = [MirostatParams(1 + i % 2, 1.5 + i, 0.3) for i in range(5)]
    together, outputs = Mirostat(), [list[int]() for _ in params]
    apart = [Mirostat() for _ in params]
    for step in range(5):
        scores = torch.cat([scores_after(output, 1.0 + i) for i, output in enumerate(outputs)])
        mixed = apply_asks(together, [ask(outputs[i], p, i, i) for i, p in enumerate(params)], scores)
        for i, processor in enumerate(apart):
            alone = apply_asks(processor, [ask(outputs[i], params[i])], scores[i : i + 1])[0]
            assert same_bits(mixed[i], alone)
            outputs[i].append(int(mixed[i].topk(2).indices[step % 2]))


@BOTH
def test_edge_rows(version: int) -> None:
    """Tied best tokens all stay, an even row is kept whole; one token stays; a row without any, and one of NaN, stay as
    they are, and whatever comes next finds a finite mu."""
    rows = torch.tensor([[9.0, 9.0, 0.0, NEVER], [5.0] * 4, [NEVER, 3.0, NEVER, NEVER], [NEVER] * 4])
    rows = torch.cat([rows, torch.tensor([[math.nan, 1.0, 2.0, 3.0]])])
    params = MirostatParams(version, 0.5, 1.0)
    processor, output = Mirostat(), list[int]()
    for _ in range(3):
        after = apply_asks(processor, [ask(output, params, i, i) for i in range(5)], rows)
        assert kept(after[0]).tolist() == [True, True, False, False]
        assert torch.equal(after[1:4], rows[1:4])
        assert after[4].isnan().any()
        output.append(1)


@pytest.mark.parametrize("vocab_size", [1, 2])
@BOTH
def test_tiny_vocabulary(version: int, vocab_size: int) -> None:
    """Where there is nothing to fit, something stays."""
    after = apply_asks(Mirostat(), [ask((), MirostatParams(version, 0.0))], torch.arange(float(vocab_size))[None])
    assert kept(after).tolist() == [[False] * (vocab_size - 1) + [True]]


def test_a_far_mu_stays_finite() -> None:
    """A million tokens that surprise nobody wind mu up by rate * target each: everything is kept, nothing overflows."""
    control = SurpriseControl(0, 20.0, 1.0)
    control._mus[-1] = 2e7
    for version in (1, 2):
        processor = Mirostat()
        processor._controls[0] = control
        scores = scores_after([])
        assert torch.equal(apply_asks(processor, [ask((), MirostatParams(version, 20.0, 1.0))], scores), scores)


def test_surprises() -> None:
    """Only tokens that were offered have a surprise."""
    surprises = Surprises(np.asarray([2, 5, 9]), np.asarray([1.0, 2.0, 3.0], np.float32))
    assert [surprises.of(token) for token in (0, 2, 3, 5, 9, 10)] == [None, 1.0, None, 2.0, 3.0, None]
    assert Surprises(np.zeros(0, np.int64), np.zeros(0, np.float32)).of(0) is None


def test_off_costs_nothing() -> None:
    """Version 0 plans no work."""
    assert Mirostat().plan([ask((), MirostatParams(0))]) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("version", 3), ("version", -1), ("target", -0.1), ("target", 20.1), ("rate", -0.1), ("rate", 1.1)],
)
def test_range(field: str, value: float) -> None:
    """A parameter out of range is refused by name."""
    with pytest.raises(ParameterError) as caught:
        MirostatParams(**{field: value})  # type: ignore[arg-type]  # an int where it is one
    assert caught.value.param == field
