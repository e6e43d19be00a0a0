"""`LLM`: the engine in process on a real (tiny) model, against transformers and against itself."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import VOCAB_SIZE, write_checkpoint

from penstock_decoding.errors import ParameterError
from penstock_engine.config import EngineConfig
from penstock_engine.errors import EngineStartError, RequestFailed, RequestRefused
from penstock_engine.llm import LLM
from penstock_models.dtype import cpu_has_fast_bfloat16

PROMPTS = [[5, 6, 7], list(range(1, 60)), [9] * 17, [200]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("llm")


@pytest.fixture(scope="module")
def oracle(folder: Path) -> Any:
    """The transformers model of the checkpoint in `folder`."""
    return write_checkpoint(folder, "llama")


@pytest.fixture(scope="module")
def llm(oracle: Any, folder: Path) -> LLM:
    return LLM(EngineConfig(model=str(folder), dtype="float32", threads=1, max_batch_tokens=32, max_rows=8))


def test_greedy_equals_transformers(llm: LLM, oracle: Any) -> None:
    """Prompts of different lengths in one batch, computed in chunks of the budget: token for token."""
    results = llm.generate(PROMPTS, {"temperature": 0}, max_tokens=24, ignore_eos=True, progress=False)
    for prompt, result in zip(PROMPTS, results, strict=True):
        expected = oracle.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False, eos_token_id=None)
        assert result.answers[0].token_ids == expected[0, len(prompt) :].tolist()
        assert result.answers[0].finish_reason == "length"


def test_logprobs_equal_transformers(llm: LLM, oracle: Any) -> None:
    """The model's own log-probabilities of sampled tokens, although temperature and top-k shaped the choice."""
    fields = {"temperature": 0.7, "top_k": 20, "seed": 1, "num_logprobs": 3}
    (result,) = llm.generate([PROMPTS[1]], fields, max_tokens=10, ignore_eos=True, progress=False)
    answer = result.answers[0]
    with torch.no_grad():
        logits = oracle(torch.tensor([[*PROMPTS[1], *answer.token_ids]])).logits[0, len(PROMPTS[1]) - 1 : -1]
    expected = logits.log_softmax(-1)
    for step, (token, logprobs) in enumerate(zip(answer.token_ids, answer.logprobs, strict=True)):
        assert logprobs.chosen == pytest.approx(expected[step, token].item(), abs=1e-4)
        top = expected[step].topk(3)
        assert [token for token, _ in logprobs.top] == top.indices.tolist()
        assert [value for _, value in logprobs.top] == pytest.approx(top.values.tolist(), abs=1e-4)


@pytest.mark.parametrize("search", [{}, {"num_beams": 3}], ids=["sample", "beam"])
def test_processed_logprobs_and_the_chain_beside_them(llm: LLM, oracle: Any, search: dict[str, object]) -> None:
    """What the chain leaves of the model's distribution, and how much of it the cut left, by a forward pass over it."""
    fields = {"temperature": 0.7, "top_k": 20, "seed": 1, "num_processed_logprobs": 2, "chain_trace": True, **search}
    (result,) = llm.generate([PROMPTS[1]], fields, max_tokens=6, ignore_eos=True, progress=False)
    answer = result.answers[0]
    with torch.no_grad():
        logits = oracle(torch.tensor([[*PROMPTS[1], *answer.token_ids]])).logits[0, len(PROMPTS[1]) - 1 : -1] / 0.7
    kept = torch.where(logits >= logits.topk(20).values[:, -1:], logits, -torch.inf)
    expected, masses = kept.log_softmax(-1), torch.where(kept.isfinite(), logits.softmax(-1), 0.0).sum(-1)
    told = zip(answer.token_ids, answer.processed_logprobs, answer.chain_trace, strict=True)
    for step, (token, logprobs, trace) in enumerate(told):
        assert logprobs.chosen == pytest.approx(expected[step, token].item(), abs=1e-4)
        assert [value for _, value in logprobs.top] == pytest.approx(expected[step].topk(2).values.tolist(), abs=1e-4)
        assert [(one.name, one.kept_count) for one in trace[1:]] == [("top_k", 20)]
        assert trace[1].kept_mass == pytest.approx(masses[step].item(), abs=1e-4)
    assert not answer.logprobs


def test_parameters_of_their_own_for_each_prompt(llm: LLM) -> None:
    """One mapping per prompt; the result says which seed was used, and that seed gives the same answers again."""
    first = llm.generate(PROMPTS, [{"temperature": 0}, {"n": 3}, {"top_p": 0.9}, {"seed": 4}], progress=False)
    assert [len(result.answers) for result in first] == [1, 3, 1, 1]
    assert first[3].seed == 4
    again = llm.generate([PROMPTS[1]], {"n": 3, "seed": first[1].seed}, progress=False)
    assert [a.token_ids for a in again[0].answers] == [a.token_ids for a in first[1].answers]


def test_a_length_of_its_own_for_each_prompt(llm: LLM) -> None:
    """One length per prompt; each answer is what it is alone."""
    lengths = [3, 9, 1, 5]
    results = llm.generate(PROMPTS, {"temperature": 0}, max_tokens=lengths, ignore_eos=True, progress=False)
    assert [len(result.answers[0].token_ids) for result in results] == lengths
    (alone,) = llm.generate([PROMPTS[1]], {"temperature": 0}, max_tokens=9, ignore_eos=True, progress=False)
    assert results[1].answers[0].token_ids == alone.answers[0].token_ids
    with pytest.raises(RequestRefused, match="2 lengths for 1 prompts"):
        llm.generate([[1]], max_tokens=[2, 3], progress=False)


def test_many_more_prompts_than_the_queue_holds(oracle: Any, folder: Path) -> None:
    """The queue's bound is for servers; a batch of any size is fed through it, and the bar counts it."""
    llm = LLM(EngineConfig(model=str(folder), dtype="float32", threads=1, max_queue=2, max_rows=2))
    results = llm.generate([[i] for i in range(1, 30)], {"seed": 1}, max_tokens=2, ignore_eos=True, progress=False)
    assert [result.prompt_token_ids for result in results] == [(i,) for i in range(1, 30)]
    assert all(len(result.answers[0].token_ids) == 2 for result in results)


def test_progress_is_shown(llm: LLM, capsys: pytest.CaptureFixture[str]) -> None:
    """A bar on standard error that reaches the number of prompts and tells the rate."""
    llm.generate(PROMPTS, {"temperature": 0}, max_tokens=2, ignore_eos=True)
    shown = capsys.readouterr().err
    assert "4/4" in shown and "tokens/s" in shown


def test_wrong_input_names_the_field_and_runs_nothing(llm: LLM) -> None:
    """One bad prompt or field among good ones: an error before anything starts."""
    with pytest.raises(ParameterError, match="top_p"):
        llm.generate(PROMPTS, {"top_p": 2}, progress=False)
    with pytest.raises(RequestRefused, match="vocabulary"):
        llm.generate([[1], [VOCAB_SIZE]], progress=False)
    with pytest.raises(RequestRefused, match="tokenizer"):
        llm.generate(["text"], progress=False)
    with pytest.raises(RequestRefused, match="tokenizer"):
        llm.generate([[1]], stop=["x"], progress=False)
    with pytest.raises(RequestRefused, match="2 mappings for 1 prompts"):
        llm.generate([[1]], [{}, {}], progress=False)
    assert len(llm.generate([[1]], progress=False)) == 1


class Letters:
    """A codec of one letter per token: enough to see what `LLM` does with text."""

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    at_start = within = holding = encode

    def encoder(self) -> "Letters":
        return self

    def vocabulary(self) -> None:
        """None: no grammar is asked for."""

    def open_stream(self, stop: Sequence[str] = ()) -> "LetterStream":
        return LetterStream(stop)


class LetterStream:
    """Holds back nothing; a stop string is one letter."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = stop

    def push(self, token_ids: Sequence[int]) -> tuple[str, bool]:
        letters = "".join(chr(token) for token in token_ids)
        return ("", True) if letters in self._stop else (letters, False)

    def finish(self) -> str:
        return "."


def test_text_in_and_out_with_stop_strings(llm: LLM, oracle: Any, folder: Path) -> None:
    """A stop string ends its answer in the engine too; held-back text is released only at other ends."""
    speaking = LLM(EngineConfig(model=str(folder), dtype="float32", threads=1), tokenizer=Letters())
    fields = {"temperature": 0}
    (free,) = speaking.generate(["abc"], fields, max_tokens=6, ignore_eos=True, progress=False)
    assert free.answers[0].text == "".join(map(chr, free.answers[0].token_ids)) + "."
    third = free.answers[0].token_ids[2]
    end = free.answers[0].token_ids.index(third)
    (cut,) = speaking.generate(["abc"], fields, max_tokens=6, stop=[chr(third)], ignore_eos=True, progress=False)
    assert cut.answers[0].token_ids == free.answers[0].token_ids[: end + 1]
    assert cut.answers[0].text == "".join(map(chr, free.answers[0].token_ids[:end]))
    assert cut.answers[0].finish_reason == "stop"
    (ended,) = speaking.generate(["abc"], fields, max_tokens=6, stop_token_ids=[third], progress=False)
    assert ended.answers[0].text == "".join(map(chr, free.answers[0].token_ids[:end])) + "."


def test_a_model_that_gives_nan_fails_the_call_and_leaves_the_engine_clean(tmp_path: Path) -> None:
    """Weights with a NaN: the call raises, naming the prompt; nothing stays open."""
    model = write_checkpoint(tmp_path, "llama")
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    model.save_pretrained(tmp_path)
    llm = LLM(EngineConfig(model=str(tmp_path), dtype="float32", threads=1))
    for _ in range(2):
        with pytest.raises(RequestFailed, match="prompt 0"):
            llm.generate([[1, 2], [3]], progress=False)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """`LLM` sets torch's thread count for its process; other tests get theirs back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_impossible_settings_do_not_start(folder: Path, oracle: Any) -> None:
    """Each is one clear error that names the setting."""
    for name in ("max_rows", "threads", "max_queue", "block_size"):
        with pytest.raises(EngineStartError, match=name):
            LLM(EngineConfig(model=str(folder), **{name: 0}))  # type: ignore[arg-type]


def bf16_results(folder: Path, *, batch_invariant: bool | None, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Sampled answers of a small bf16 model, in an engine of their own."""
    config = EngineConfig(
        str(folder), dtype="bfloat16", batch_invariant=batch_invariant, threads=1, max_batch_tokens=70, max_rows=70
    )
    fields = {"seed": 5, "temperature": 1.2, "top_p": 0.9}
    results = LLM(config).generate(prompts, fields, max_tokens=20, ignore_eos=True, progress=False)
    return [result.answers[0].token_ids for result in results]


@pytest.mark.cpu
@pytest.mark.skipif(not cpu_has_fast_bfloat16(), reason="the CPU has no bf16 instructions")
def test_small_bf16_models_are_batch_invariant_unless_told_otherwise(tmp_path: Path) -> None:
    """70 rows in chunks of a budget that cuts prompts anywhere: each answer is the one it has alone, by default."""
    write_checkpoint(tmp_path, "llama", head_dim=32)
    prompts = [[1 + row % 50] * (1 + row % 37) + [row] for row in range(70)]
    together = bf16_results(tmp_path, batch_invariant=None, prompts=prompts)
    for row in range(0, 70, 10):
        assert bf16_results(tmp_path, batch_invariant=True, prompts=[prompts[row]]) == [together[row]]
    assert LLM(EngineConfig(str(tmp_path), dtype="bfloat16")).info.kernels == "invariant"
    assert LLM(EngineConfig(str(tmp_path), dtype="bfloat16", batch_invariant=False)).info.kernels == "reference"


@pytest.mark.cpu
def test_batch_invariance_is_refused_where_it_cannot_be_had(folder: Path, oracle: Any) -> None:
    """In float32, and with heads that do not fill a matrix tile, asking for it is an error that says why."""
    with pytest.raises(EngineStartError, match=r"batch_invariant.*float32"):
        LLM(EngineConfig(str(folder), dtype="float32", batch_invariant=True))
    assert LLM(EngineConfig(str(folder), dtype="float32")).info.kernels == "reference"
    if cpu_has_fast_bfloat16():
        with pytest.raises(EngineStartError, match="heads of 20"):
            LLM(EngineConfig(str(folder), dtype="bfloat16", batch_invariant=True))


def test_min_tokens_in_a_chain_hold_off_the_end(llm: LLM) -> None:
    """A chain's min_tokens counts for the stop condition as the flat field does: it did not, and an answer whose end
    token no processor excluded any more could be cut there."""
    for fields in ({"min_tokens": 5}, {"decoding": {"chain": [{"min_tokens": 5}]}}):
        every_token = range(VOCAB_SIZE - 1)
        (result,) = llm.generate(
            [[5, 6]], {**fields, "seed": 1}, max_tokens=9, stop_token_ids=every_token, progress=False
        )
        assert len(result.answers[0].token_ids) == 6
