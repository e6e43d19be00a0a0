"""Steps launched on a real (tiny) model: the answers are those of an engine that waits for each step."""

import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from kernel_tables import DEVICE
from scripted_engine import LIMITS, Answers, collect, make_request, run_all, token_ids

from penstock_decoding.device_sampler import DeviceChoice
from penstock_decoding.sample_row import SampleRow
from penstock_engine.batch import Batch
from penstock_engine.config import EngineConfig
from penstock_engine.engine import Engine
from penstock_engine.errors import EngineStartError
from penstock_engine.graph_runner import GraphRunner, LaunchedStep, SentTables
from penstock_engine.llm import LLM, Answer, Result
from penstock_engine.model_runner import ModelRunner
from penstock_engine.recordings import Eager, ladder
from penstock_kernels import Kernels
from penstock_models.loader import load_checkpoint

BASE: dict[str, object] = {"dtype": "float32", "threads": 1, "max_batch_tokens": 64}

# Of every kind that is launched.
CROWD: tuple[dict[str, object], ...] = (
    {"temperature": 0},
    {"temperature": 0, "n": 3},
    {"temperature": 0.8, "top_p": 0.9, "seed": 1},
    {"temperature": 1.2, "top_k": 5, "n": 4, "seed": 2},
    {"repetition_penalty": 1.4, "frequency_penalty": 0.4, "presence_penalty": 0.1, "seed": 3, "n": 2},
    {"temperature": 0, "repetition_penalty": 1.5, "num_logprobs": 2},
    {"min_p": 0.05, "num_logprobs": 9, "seed": 4},
    {"seed": -5},
    {"num_logprobs": 0, "top_k": 40, "seed": 6},
)
# Not launched: they hold the others' steps back while they run.
SHORT: tuple[dict[str, object], ...] = ({"decoding": {"strategy": "beam", "width": 3}}, {"min_tokens": 4, "seed": 8})


@pytest.fixture(scope="module", params=["llama", "mistral", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp(str(request.param))
    write_checkpoint(folder, str(request.param))
    yield folder


def llm(folder: Path, **fields: object) -> LLM:
    return LLM(EngineConfig(model=str(folder), **{**BASE, **fields}))  # type: ignore[arg-type]  # fields by name


def asked(rng: random.Random) -> tuple[list[list[int]], list[dict[str, object]], list[int]]:
    """Prompts, some of which begin alike, their fields and their lengths."""
    fields = [*(rng.choice(CROWD) for _ in range(14)), *SHORT]
    prompts = [
        [*range(1, rng.choice([1, 20, 40])), *(rng.randrange(1, 270) for _ in range(rng.randrange(1, 30)))]
        for _ in fields
    ]
    lengths = [rng.randrange(1, 6) if own in SHORT else rng.randrange(5, 40) for own in fields]
    return prompts, fields, lengths


def assert_same(got: list[Answer], expected: list[Answer]) -> None:
    """The same tokens and ends; log-probabilities but for rounding, for sums may be made in another order."""
    assert [(a.token_ids, a.finish_reason) for a in got] == [(a.token_ids, a.finish_reason) for a in expected]
    for mine, other in zip(got, expected, strict=True):
        for one, two in zip(mine.logprobs, other.logprobs, strict=True):
            assert one.chosen == pytest.approx(two.chosen, abs=1e-4)
            assert [token for token, _ in one.top] == [token for token, _ in two.top]
            assert [value for _, value in one.top] == pytest.approx([value for _, value in two.top], abs=1e-4)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each launched step has."""
    sizes: list[int] = []
    launch = GraphRunner.launch

    def counting(self: GraphRunner, batch: Batch, rows: Sequence[SampleRow]) -> LaunchedStep | None:
        sizes.append(len(rows))
        return launch(self, batch, rows)

    monkeypatch.setattr(GraphRunner, "launch", counting)
    return sizes


def test_a_crowd_gets_the_same_answers(folder: Path, launched: list[int]) -> None:
    """All kinds at once, in a cache that holds them all and in one that does not: as without overlap."""
    prompts, fields, lengths = asked(random.Random(1))

    def answers(engine: LLM) -> list[Result]:
        stop = [7, 19, 40, 111, 201]
        return engine.generate(prompts, fields, max_tokens=lengths, stop_token_ids=stop, progress=False)

    plain, roomy = llm(folder, max_rows=40, overlap=False), llm(folder, max_rows=40, overlap=True)
    block_bytes = plain.info.kv_cache_bytes // plain.info.num_blocks // plain.info.block_size * 4
    tight = llm(folder, max_rows=13, overlap=True, block_size=4, max_model_len=112, kv_cache_memory=66 * block_bytes)
    expected = answers(plain)
    for engine in (roomy, tight):
        launched.clear()
        for result, other in zip(answers(engine), expected, strict=True):
            assert_same(result.answers, other.answers)
        stats = engine._engine.stats
        assert len(launched) > stats.num_steps / 2
        assert stats.num_blocks_in_use == 0
    assert tight._engine.stats.num_preemptions > 0


class Overwriting(Eager[DeviceChoice]):
    """As graphs do: a step gives the same tensors each time, and from the next step on they mean nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[Hashable, DeviceChoice] = {}

    def record(self, key: Hashable, step: Callable[[], DeviceChoice]) -> None:
        super().record(key, step)
        self._kept[key] = step()

    def play(self, key: Hashable) -> DeviceChoice:
        for choice in self._kept.values():
            choice.tokens.fill_(-9)
            choice.words.fill_(-9)
        new, kept = super().play(key), self._kept[key]
        kept.tokens.copy_(new.tokens)
        kept.words.copy_(new.words)
        return kept


@pytest.mark.parametrize("seed", range(3))
def test_what_ends_early_leaves_nothing_behind(folder: Path, seed: int) -> None:
    """Answers dropped while steps compute them, steps that the plan cannot hold, rows of the device that pass from one
    sequence to another, and results that are overwritten: whoever goes on gets what it gets without overlap."""
    rng = random.Random(seed)
    decoder = load_checkpoint(folder, dtype="float32", device=DEVICE, kernels=Kernels.reference()).decoder
    limits = replace(LIMITS, max_rows=6, max_batch_tokens=24, num_blocks=40, vocab_size=decoder.spec.vocab_size)
    runner = GraphRunner(
        decoder, num_blocks=40, block_size=4, max_rows=6, max_context=limits.max_model_len, cuda_graphs=False
    )
    runner._recordings = Overwriting()
    runner._step.plan.can_hold = lambda context_lens: rng.random() < 0.9  # type: ignore[method-assign]
    requests = [
        make_request(
            str(i),
            [rng.randrange(1, 270) for _ in range(rng.randrange(1, 12))],
            {"seed": i, **rng.choice(CROWD)},
            max_tokens=rng.randrange(8, 24),
            stop_token_ids=rng.choice([(), range(0, 270, 9)]),
        )
        for i in range(9)
    ]
    engine = Engine(runner, limits)
    answers: Answers = {}
    dropped: set[tuple[str, int]] = set()
    for request in requests:
        engine.add(request)
    while engine.has_work:
        if rng.random() < 0.2:
            key = rng.choice(requests).id, rng.randrange(4)
            engine.abort(*key)
            dropped.add(key)
        collect(engine, answers)
    assert engine.stats.num_blocks_in_use == 0

    plain = ModelRunner(decoder, num_blocks=200, block_size=4)
    expected = run_all(Engine(plain, replace(limits, num_blocks=200)), requests)
    for key, answer in expected.items():
        got = token_ids(answers.get(key, []))
        assert got == token_ids(answer)[: len(got)]
        assert key in dropped or len(got) == len(answer)


def test_all_steps_but_the_prompts_are_launched(folder: Path, launched: list[int]) -> None:
    own = llm(folder, overlap=True, max_rows=20)
    own.generate([[5, 6, 7]] * 3, {"seed": 3}, max_tokens=30, ignore_eos=True, progress=False)
    assert launched == [3] * 29
    assert own._engine.stats.num_steps == 30


def test_recording_leaves_every_block_alone(folder: Path) -> None:
    """It runs steps of padding, which write into the one block that nobody is given."""
    decoder = load_checkpoint(folder, dtype="float32", device=DEVICE, kernels=Kernels.reference()).decoder
    runner = GraphRunner(decoder, num_blocks=5, block_size=4, max_rows=9, max_context=20, cuda_graphs=False)
    storage = runner._model.cache.storage
    storage.fill_(7)
    runner.record()
    assert bool((storage[:, :5] == 7).all())
    assert not bool((storage[:, 5] == 7).all())


@pytest.mark.cpu
def test_overlap_has_to_be_possible(folder: Path) -> None:
    """Off on a CPU unless asked for; what cannot be had is refused in the flags' words."""
    assert not llm(folder).info.overlap
    on = llm(folder, overlap=True).info
    assert on.overlap and not on.cuda_graphs
    with pytest.raises(EngineStartError, match="overlap needs a block_size that is a power of two, and it is 12"):
        llm(folder, overlap=True, block_size=12)
    with pytest.raises(EngineStartError, match="cuda_graphs are of the steps that overlap launches, which is off"):
        llm(folder, cuda_graphs=True)
    with pytest.raises(EngineStartError, match="cuda_graphs need a GPU and fused kernels; these are reference on cpu"):
        llm(folder, cuda_graphs=True, overlap=True, batch_invariant=False)


def test_the_ladder_ends_with_the_most_rows() -> None:
    """Small batches exactly, larger ones in steps of eight, and never more than there can be."""
    assert ladder(1) == [1]
    assert ladder(8) == [1, 2, 4, 8]
    assert ladder(20) == [1, 2, 4, 8, 16, 20]
    assert ladder(256)[-3:] == [240, 248, 256]
    assert len(ladder(256)) == 35


def test_recordings_run_once_when_recorded_and_once_when_played() -> None:
    """As a graph does, which has to run a step before it can be captured."""
    runs: list[int] = []
    recordings: Eager[int] = Eager()
    recordings.record("a", lambda: runs.append(1) or len(runs))  # type: ignore[func-returns-value]
    assert "a" in recordings and "b" not in recordings
    assert recordings.play("a") == 2


def test_only_what_changed_of_a_block_table_is_sent() -> None:
    """One block more is a change; another list, or several blocks more, is a table."""
    sent = SentTables()
    table = [4, 5]
    assert sent.bring_up_to_date([1], [table]) == ([], {1: [4, 5]})
    assert sent.bring_up_to_date([1], [table]) == ([], {})
    table.append(6)
    assert sent.bring_up_to_date([1], [table]) == ([(1, 2, 6)], {})
    table += [7, 8]
    assert sent.bring_up_to_date([1], [table]) == ([], {1: [4, 5, 6, 7, 8]})
    assert sent.bring_up_to_date([1], [list(table)]) == ([], {1: [4, 5, 6, 7, 8]})
    sent.forget(1)
    assert sent.bring_up_to_date([1], [table]) == ([], {1: [4, 5, 6, 7, 8]})
