"""Every fused op, with the programs of its launches in other orders: the bits are those of the plain order.

On a GPU, which has an order of its own each time, the same again and again.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pytest
import torch
import triton
from closeness import randn
from kernel_launches import OPS
from kernel_tables import DEVICE, IS_INTERPRETED, table
from paged_sequences import PagedSequences
from torch import Tensor

from penstock_kernels import Kernels
from penstock_kernels.layer_cache import LayerCache
from penstock_kernels.linear import MlpActivation
from penstock_kernels.paged_attention import AttentionShape, DecodingRows
from penstock_kernels.paged_attention.cases import Case
from penstock_kernels.penalties import PenaltyInputs, UsedTokens
from penstock_kernels.qkv_prepare import Angles, HeadNorms
from penstock_kernels.sample import SampleInputs
from penstock_kernels.sample.cases import ASKED
from penstock_kernels.step_inputs import LAST_TOKEN, SlotTable, StepInputs

if IS_INTERPRETED:
    import triton.language as tl
    from program_order import ORDERS, programs_in

TIMES_ON_A_GPU = 20
HALF = torch.float16
Made = tuple[Tensor, ...]


@pytest.fixture(autouse=True)
def no_numpy_warnings() -> Iterator[None]:
    """The interpreter computes with numpy, which warns of overflow where scores are small on purpose."""
    with np.errstate(over="ignore", invalid="ignore"):
        yield


def half(*shape: int, seed: int = 0) -> Tensor:
    return randn(*shape, dtype=HALF, seed=seed).to(DEVICE)


def ints(values: object, dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=DEVICE)


def rms_norm(kernels: Kernels) -> Made:
    residual = half(5, 300, seed=1)
    return kernels.rms_norm(half(5, 300), half(300, seed=2), 1e-5, residual), residual


def layer_norm(kernels: Kernels) -> Made:
    residual = half(5, 300, seed=1)
    return kernels.layer_norm(half(5, 300), half(300, seed=2), half(300, seed=3), 1e-5, residual), residual


def activation(kernels: Kernels) -> Made:
    return kernels.activate(half(3, 2100), "gelu"), kernels.gated_activate(half(3, 2100), "silu")


def qkv_prepare(kernels: Kernels) -> Made:
    """Queries are changed in place; the heads of a token are divided among programs."""
    heads, key_heads, size = 20, 9, 64
    angles = randn(6, size // 2, dtype=torch.float32).to(DEVICE)
    cos, sin = torch.cat((angles.cos(),) * 2, -1), torch.cat((-angles.sin(), angles.sin()), -1)
    values = torch.zeros(12, 2, key_heads, size, dtype=torch.int8, device=DEVICE)
    cache = LayerCache(values, torch.zeros(12, 2, key_heads, device=DEVICE))
    q = kernels.qkv_prepare(
        half(6, heads + 2 * key_heads, size),
        cache,
        ints([7, 3, 11, 0, 5, 6]),
        bias=half((heads + 2 * key_heads) * size, seed=1),
        norms=HeadNorms(half(size, seed=2), half(size, seed=3), 1e-5),
        angles=Angles(cos[:, None], sin[:, None]),
    )
    assert cache.scales is not None
    return q, cache.values, cache.scales


def copy_blocks(kernels: Kernels) -> Made:
    """Chains and a swap, in blocks of more than one piece."""
    storage = randn(3, 9, 1100, dtype=torch.float32).to(DEVICE)
    kernels.copy_blocks(storage, ints([0, 1, 2, 4, 5]), ints([1, 2, 3, 5, 4]))
    return (storage,)


def gather_last(kernels: Kernels) -> Made:
    return (kernels.gather_last(half(6, 1100), ints([5, 0, 5])),)


def step_inputs(kernels: Kernels) -> Made:
    """More rows and changes than one turn takes; rows read what was changed."""
    num_rows = 300
    slots = torch.arange(1, num_rows + 1)
    rows = torch.stack((slots.flip(0), slots % 40, torch.full_like(slots, LAST_TOKEN)), 1).int().to(DEVICE)
    changes = torch.stack((rows[:, 0], rows[:, 1] // 16, rows[:, 0] + 7), 1).contiguous()
    slot_table = SlotTable(
        torch.arange(num_rows + 1, device=DEVICE), torch.zeros(num_rows + 1, 3, dtype=torch.int32, device=DEVICE)
    )
    made = [torch.zeros(num_rows, dtype=torch.int64, device=DEVICE) for _ in range(3)]
    made += [torch.zeros(num_rows, dtype=torch.int32, device=DEVICE) for _ in range(2)]
    kernels.prepare_step(rows, changes, slot_table, StepInputs(*made), 16)
    return (*made, slot_table.block_tables)


def scores_of(num_rows: int, vocab: int) -> Tensor:
    """Of few bits, so that many are equal."""
    return (randn(num_rows, vocab, dtype=torch.float32) * 4).round().div(2).to(DEVICE)


def sample(kernels: Kernels) -> Made:
    """Two chunks a row: greedy, plain, with top-k, with top-p, with both."""
    rows_asked = (ASKED[1], ASKED[7], ASKED[3], ASKED[5], ASKED[8])
    num_rows = len(rows_asked)
    scores = scores_of(num_rows, 4200)

    def column(name: str, dtype: torch.dtype) -> Tensor:
        return torch.tensor([getattr(asked, name) for asked in rows_asked], dtype=dtype, device=DEVICE)

    places = torch.arange(num_rows, dtype=torch.int32, device=DEVICE)
    inputs = SampleInputs(
        column("temperature", torch.float32),
        column("top_k", torch.int32),
        column("top_p", torch.float32),
        column("min_p", torch.float32),
        places.long(),
        places,
        places,
    )
    return (kernels.sample(scores, inputs),)


def token_logprobs(kernels: Kernels) -> Made:
    scores, tokens = scores_of(2, 4200), ints([4199, -1])
    return *kernels.token_logprobs(scores, tokens, 3), *kernels.token_logprobs(scores, tokens, 70)


def best_continuations(kernels: Kernels) -> Made:
    logprobs = torch.zeros(5, dtype=torch.float64, device=DEVICE)
    return kernels.best_continuations(scores_of(5, 90), logprobs, ints([0, 2, 5]), 6)


def penalties(kernels: Kernels) -> Made:
    """Two rows share a slot."""
    vocab, num_rows = 9001, 4
    bits = torch.randint(0, 2**31, (3, -(-vocab // 32)), generator=torch.Generator().manual_seed(0))
    used = UsedTokens(bits.int().to(DEVICE), torch.zeros(3, vocab, dtype=torch.int16, device=DEVICE))
    kernels.count_tokens(used, ints([2, 0, 1, 2], torch.int32), ints([5, 8, 7, -1]))
    scores = scores_of(num_rows, vocab)
    asked = torch.tensor([1.3, 0.7, 1.0, 1.2], device=DEVICE)
    kernels.penalties(scores, ints([2, 0, 1, 2], torch.int32), used, PenaltyInputs(asked, asked, asked))
    return scores, used.counts


def bitmask(kernels: Kernels) -> Made:
    mask = torch.randint(-(2**31), 2**31, (2, 300), generator=torch.Generator().manual_seed(0))
    scores = scores_of(4, 9700)
    kernels.apply_bitmask(scores, mask.int().to(DEVICE), ints([3, 1]))
    return (scores,)


def linear(kernels: Kernels) -> Made:
    """Twice from one packed weight: its counters are to be as they were. 1024 inputs are two segments."""
    made = []
    x, residual, packed = half(3, 1024), half(3, 72, seed=1), kernels.pack_linear(half(72, 1024, seed=2))
    for _ in range(2):
        made.append(kernels.linear(x, packed, activation=MlpActivation("silu", True)))
        kernels.linear(x, packed, residual=residual)
    return *made, residual, packed.form.arrivals, kernels.linear(half(70, 64), kernels.pack_linear(half(72, 64)))


def logits(kernels: Kernels) -> Made:
    return kernels.logits(half(3, 64), half(300, 64, seed=1)), kernels.logits(half(70, 64), half(300, 64, seed=1))


def paged_attention(kernels: Kernels) -> Made:
    """Splits that the last program merges, of rows with and without a shared prefix, in two layers; then decoding, by
    all rows and by a part, from one workspace."""
    case = Case("mixture", (1, 1, 2), (514, 600, 514), heads=(2, 1, 16), block_size=16, shared=512)
    sequences = PagedSequences.make(case, torch.float32, DEVICE)
    plan = kernels.plan_attention(sequences.batch, sequences.shape, DEVICE)
    made = [kernels.paged_attention(sequences.q, sequences.cache, plan, sequences.rule) for _ in range(2)]
    batch = sequences.batch
    rows = DecodingRows(
        torch.from_numpy(batch.context_lens).int().to(DEVICE),
        torch.arange(len(batch.context_lens), dtype=torch.int32, device=DEVICE),
        torch.from_numpy(batch.block_tables).int().to(DEVICE),
        batch.block_size,
    )
    shape = AttentionShape(*case.heads, [None])
    decoding = kernels.plan_decoding(rows, shape, 1024)
    for part in (decoding, decoding.first(2)):
        part.refresh()
        q = sequences.q[: 3 if part is decoding else 2]
        made.append(kernels.paged_attention(q, sequences.cache, part, sequences.rule))
    return tuple(made)


CASES: Mapping[str, Callable[[Kernels], Made]] = {
    function.__name__: function
    for function in (
        activation,
        best_continuations,
        bitmask,
        copy_blocks,
        gather_last,
        layer_norm,
        linear,
        logits,
        paged_attention,
        penalties,
        qkv_prepare,
        rms_norm,
        sample,
        step_inputs,
        token_logprobs,
    )
}


def assert_same_bits(made: Made, expected: Made) -> None:
    for one, other in zip(made, expected, strict=True):
        assert torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))


def test_every_op_is_here() -> None:
    assert sorted(CASES) == OPS


@pytest.mark.parametrize("op", CASES)
def test_the_bits_are_those_of_the_plain_order(op: str) -> None:
    kernels = table("fused_invariant")
    expected = CASES[op](kernels)
    if not IS_INTERPRETED:
        for _ in range(TIMES_ON_A_GPU):
            assert_same_bits(CASES[op](kernels), expected)
        return
    for order in ORDERS:
        with programs_in(order):
            made = CASES[op](kernels)
        assert_same_bits(made, expected)


@pytest.mark.skipif(not IS_INTERPRETED, reason="orders are those of interpreted programs")
def test_races_are_found() -> None:
    """That of reading what the program before has written, and that of two programs that count together."""

    @triton.jit
    def from_neighbour(x):  # type: ignore[no-untyped-def]
        i = tl.program_id(0)
        tl.store(x + i + 1, tl.load(x + i) + 1)

    @triton.jit
    def count(x):  # type: ignore[no-untyped-def]
        tl.store(x, tl.load(x) + 1)

    def run(kernel: Callable[..., None]) -> list[int]:
        x = torch.zeros(20, dtype=torch.int32)
        kernel[(19,)](x)  # type: ignore[index]
        return x.tolist()

    assert run(from_neighbour) == list(range(20)) and run(count)[0] == 19
    for order in ORDERS:
        with programs_in(order):
            assert run(from_neighbour) != list(range(20))
            assert (run(count)[0] == 19) == (order != "interleaved")
