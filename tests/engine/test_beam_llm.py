"""Beam search with `LLM` on a tiny model against transformers' `generate(num_beams=...)`, token for token."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import write_checkpoint
from slow_beam import SlowSearch, Tokens, slow_beam
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from penstock_engine.config import EngineConfig
from penstock_engine.llm import LLM, Result

MAX_TOKENS = 12
PROMPTS = [[5, 6, 7], list(range(1, 40)), [9] * 7, [200], [31, 41, 59]]
# Tokens that this model likes: answers of all lengths occur.
EOS = (28, 42, 241, 258)
# Where two numbers that decided something are closer than this, relative to their size, rounding may decide otherwise.
TIE = 2e-5


@dataclass(frozen=True, slots=True)
class Case:
    """One search, in our words; `processors` are transformers' for the same `chain`."""

    prompt: list[int]
    width: int
    n: int
    penalty: float = 1.0
    early: bool | str = False
    chain: dict[str, Any] = field(default_factory=dict)
    processors: tuple[Any, ...] = ()

    @property
    def fields(self) -> dict[str, Any]:
        decoding = {
            "strategy": "beam",
            "width": self.width,
            "n": self.n,
            "length_penalty": self.penalty,
            "early_stopping": self.early,
        }
        return {**self.chain, "decoding": decoding, "num_logprobs": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("beams")


@pytest.fixture(scope="module")
def oracle(folder: Path) -> Any:
    """The transformers model of the checkpoint in `folder`."""
    return write_checkpoint(folder, "llama")


@pytest.fixture(scope="module")
def llm(oracle: Any, folder: Path) -> Iterator[LLM]:
    before = torch.get_num_threads()
    yield LLM(EngineConfig(model=str(folder), dtype="float32", threads=1, max_batch_tokens=64, max_rows=32))
    torch.set_num_threads(before)


class OwnLogits:
    """Gives the processors behind it the model's logits. transformers' beam search gives them log-probabilities, which
    a repetition penalty takes otherwise; its sampling and everything here give them logits."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __enter__(self) -> "OwnLogits":
        self._hook = self._model.lm_head.register_forward_hook(self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return self._logits[:, -1].float()

    def _keep(self, module: Any, inputs: Any, output: torch.Tensor) -> None:
        self._logits = output


def transformers_answers(model: Any, case: Case) -> list[tuple[float, Tokens]]:
    """(score, tokens) of transformers' beams, best first."""
    ids = torch.tensor([case.prompt])
    with OwnLogits(model) as own:
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            num_beams=case.width,
            num_return_sequences=case.n,
            max_new_tokens=MAX_TOKENS,
            length_penalty=case.penalty,
            early_stopping=case.early,
            eos_token_id=list(EOS),
            pad_token_id=0,
            do_sample=False,
            renormalize_logits=True,
            logits_processor=LogitsProcessorList([own, *case.processors]),
            return_dict_in_generate=True,
            output_scores=True,
        )
    answers = []
    for row, score, beams in zip(output.sequences, output.sequences_scores, output.beam_indices, strict=True):
        length = int((beams >= 0).sum())
        answers.append((score.item(), tuple(row[len(case.prompt) :][:length].tolist())))
    return answers


def plain_reading(model: Any, case: Case) -> SlowSearch:
    """The same search read plainly on the same model."""

    def table(answers: list[Tokens]) -> Any:
        ids = torch.tensor([[*case.prompt, *answer] for answer in answers])
        with torch.no_grad():
            scores = model(ids).logits[:, -1].float()
        return LogitsProcessorList(case.processors)(ids, scores).log_softmax(-1).double().numpy()

    return slow_beam(
        table,
        width=case.width,
        stop=EOS,
        max_tokens=MAX_TOKENS,
        length_penalty=case.penalty,
        early_stopping=case.early,
        n=case.n,
    )


def assert_equal_to_transformers(llm: LLM, model: Any, cases: Sequence[Case]) -> list[Result]:
    """All cases in one batch. Those in which nothing was decided by rounding, three of four at least, agree in every
    token and score with transformers, and so does the plain reading that tells which those are."""
    results = llm.generate(
        [case.prompt for case in cases],
        [case.fields for case in cases],
        max_tokens=MAX_TOKENS,
        stop_token_ids=EOS,
        ignore_eos=True,
        progress=False,
    )
    num_clear = 0
    for case, result in zip(cases, results, strict=True):
        expected, plain = transformers_answers(model, case), plain_reading(model, case)
        if plain.margin < TIE:
            continue
        num_clear += 1
        assert [tokens for _, tokens in plain.found[: case.n]] == [tokens for _, tokens in expected], case
        assert [tuple(answer.token_ids) for answer in result.answers] == [tokens for _, tokens in expected], case
        scores = [score for score, _ in expected]
        assert [score for score, _ in plain.found[: case.n]] == pytest.approx(scores, rel=1e-4)
        assert [answer.score for answer in result.answers] == pytest.approx(scores, rel=1e-4)
        ends = ["stop" if tokens[-1] in EOS else "length" for _, tokens in expected]
        assert [answer.finish_reason for answer in result.answers] == ends
    assert num_clear >= 0.75 * len(cases)
    return results


def test_every_rule_of_stopping_and_every_length_penalty(llm: LLM, oracle: Any) -> None:
    """Fifteen searches of widths 2 to 8 in one batch; answers that end early and answers that do not both occur."""
    settings = [(early, penalty) for early in (False, True, "never") for penalty in (-1.0, 0.0, 0.6, 1.0, 2.0)]
    cases = [
        Case(PROMPTS[i % len(PROMPTS)], width=2 + i % 7, n=1 + i % (2 + i % 7), penalty=penalty, early=early)
        for i, (early, penalty) in enumerate(settings)
    ]
    results = assert_equal_to_transformers(llm, oracle, cases)
    lengths = {len(answer.token_ids) for result in results for answer in result.answers}
    assert min(lengths) <= 3 and max(lengths) == MAX_TOKENS and len(lengths) >= 5


def test_with_processors_in_the_chain(llm: LLM, oracle: Any) -> None:
    """Scores are sums of what the chain makes of the model's distribution, normalised anew."""

    def min_tokens(prompt: Sequence[int]) -> MinNewTokensLengthLogitsProcessor:
        return MinNewTokensLengthLogitsProcessor(len(prompt), 5, list(EOS), device="cpu")

    chains: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
        ({"repetition_penalty": 1.4}, (RepetitionPenaltyLogitsProcessor(1.4),)),
        ({"temperature": 0.6}, (TemperatureLogitsWarper(0.6),)),
        ({"top_k": 12, "temperature": 1.5}, (TemperatureLogitsWarper(1.5), TopKLogitsWarper(12))),
        ({"top_p": 0.8}, (TopPLogitsWarper(0.8),)),
        ({"min_tokens": 5}, (min_tokens(PROMPTS[0]),)),
        (
            {"min_tokens": 5, "repetition_penalty": 1.2, "temperature": 0.8, "top_k": 30},
            (
                RepetitionPenaltyLogitsProcessor(1.2),
                min_tokens(PROMPTS[0]),
                TemperatureLogitsWarper(0.8),
                TopKLogitsWarper(30),
            ),
        ),
    ]
    cases = [
        Case(PROMPTS[0], width=width, n=width, early=early, chain=chain, processors=processors)
        for chain, processors in chains
        for width, early in ((3, "never"), (6, False))
    ]
    assert_equal_to_transformers(llm, oracle, cases)


def test_a_width_of_one_is_greedy_until_a_better_answer_is_impossible(llm: LLM, oracle: Any) -> None:
    """transformers has no beam search of width 1; with `early_stopping` its greedy answer is ours."""
    fields = {"decoding": {"strategy": "beam", "width": 1, "early_stopping": True}}
    results = llm.generate(PROMPTS, fields, max_tokens=MAX_TOKENS, stop_token_ids=EOS, ignore_eos=True, progress=False)
    for prompt, result in zip(PROMPTS, results, strict=True):
        ids = torch.tensor([prompt])
        expected = oracle.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=MAX_TOKENS,
            do_sample=False,
            eos_token_id=list(EOS),
            pad_token_id=0,
        )
        assert result.answers[0].token_ids == expected[0, len(prompt) :].tolist()


def test_logprobs_are_those_of_the_model_along_the_answer(llm: LLM, oracle: Any) -> None:
    """For answers told in pieces and at the end, whatever the chain: a forward pass of transformers over the whole."""
    fields = {"temperature": 0.5, "num_logprobs": 3, "decoding": {"strategy": "beam", "width": 5, "n": 4}}
    (result,) = llm.generate(
        [PROMPTS[1]], fields, max_tokens=MAX_TOKENS, stop_token_ids=EOS, ignore_eos=True, progress=False
    )
    assert len(result.answers) == 4
    for answer in result.answers:
        assert len(answer.logprobs) == len(answer.token_ids)
        with torch.no_grad():
            logits = oracle(torch.tensor([[*PROMPTS[1], *answer.token_ids]])).logits[0, len(PROMPTS[1]) - 1 : -1]
        expected = logits.log_softmax(-1)
        for step, (token, logprobs) in enumerate(zip(answer.token_ids, answer.logprobs, strict=True)):
            assert logprobs.chosen == pytest.approx(expected[step, token].item(), abs=1e-4)
            assert [value for _, value in logprobs.top] == pytest.approx(
                expected[step].topk(3).values.tolist(), abs=1e-4
            )
        processed = (logits / 0.5).log_softmax(-1)
        total = sum(processed[step, token].item() for step, token in enumerate(answer.token_ids))
        assert answer.score == pytest.approx(total / len(answer.token_ids), abs=1e-4)


def test_fewer_answers_than_asked_for(llm: LLM) -> None:
    """A chain that leaves two tokens a step: of two steps there are four answers, and four are returned."""
    fields = {"top_k": 2, "decoding": {"strategy": "beam", "width": 6, "n": 6}}
    (result,) = llm.generate([[5, 6, 7]], fields, max_tokens=2, ignore_eos=True, progress=False)
    assert len(result.answers) == len({tuple(answer.token_ids) for answer in result.answers}) == 4
    assert [len(answer.token_ids) for answer in result.answers] == [2] * 4
    scores = [answer.score for answer in result.answers]
    assert all(a is not None and b is not None and a > b for a, b in itertools.pairwise(scores))


def test_other_strategies_have_no_score(llm: LLM) -> None:
    (result,) = llm.generate([[5, 6, 7]], {"n": 2, "seed": 1}, max_tokens=2, ignore_eos=True, progress=False)
    assert [answer.score for answer in result.answers] == [None, None]


class Letters:
    """A codec of one letter per token."""

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    at_start = within = holding = encode

    def encoder(self) -> "Letters":
        return self

    def vocabulary(self) -> None:
        return None

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


def test_a_stop_string_cuts_answers_that_come_several_tokens_at_a_time(folder: Path, oracle: Any, llm: LLM) -> None:
    """Each answer ends where its text does, with no token behind it and no score, which is that of the whole."""
    speaking = LLM(EngineConfig(model=str(folder), dtype="float32", threads=1), tokenizer=Letters())
    fields = {"decoding": {"strategy": "beam", "width": 4, "n": 3}}
    (free,) = speaking.generate(["abc"], fields, max_tokens=8, ignore_eos=True, progress=False)
    assert [answer.text for answer in free.answers] == ["".join(map(chr, a.token_ids)) + "." for a in free.answers]
    last = free.answers[2].token_ids[4]
    end = free.answers[2].token_ids.index(last)
    (cut,) = speaking.generate(["abc"], fields, max_tokens=8, stop=[chr(last)], ignore_eos=True, progress=False)
    assert len(cut.answers) == 3
    for answer, whole in zip(cut.answers, free.answers, strict=True):
        if last in whole.token_ids:
            place = whole.token_ids.index(last)
            assert answer.token_ids == whole.token_ids[: place + 1]
            assert answer.text == "".join(map(chr, whole.token_ids[:place]))
            assert (answer.finish_reason, answer.score) == ("stop", whole.score if place == 7 else None)
        else:
            assert answer == whole
    assert cut.answers[2].token_ids == free.answers[2].token_ids[: end + 1]
