"""Prompts read by real (tiny) models: transformers is the oracle, and the model's own floats when it generates."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import FAMILY_NAMES, VOCAB_SIZE, write_checkpoint

from penstock_engine.config import EngineConfig
from penstock_engine.errors import RequestFailed, RequestRefused
from penstock_engine.llm import LLM
from penstock_engine.outputs import TokenLogprobs
from penstock_engine.request import Pooling
from penstock_models.dtype import cpu_has_fast_bfloat16

PROMPTS = [[5, 6, 7], [i * 31 % VOCAB_SIZE for i in range(1, 76)], [9] * 17, [200]]
POOLINGS: tuple[Pooling, ...] = ("mean", "last")


@pytest.fixture(scope="module", params=FAMILY_NAMES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, LLM]:
    """The transformers model of a checkpoint, and an engine that computes prompts in pieces of 32 tokens."""
    folder = tmp_path_factory.mktemp("reading")
    model = write_checkpoint(folder, request.param)
    return model, LLM(EngineConfig(model=str(folder), dtype="float32", threads=1, max_batch_tokens=32, max_rows=8))


def test_prompt_logprobs_equal_transformers(family: tuple[Any, LLM]) -> None:
    """Of each prompt token but the first, with its rank and the likeliest at its place; no answer, as none is asked."""
    model, llm = family
    results = llm.generate(PROMPTS, max_tokens=0, num_prompt_logprobs=3, progress=False)
    for prompt, result in zip(PROMPTS, results, strict=True):
        assert result.answers == []
        assert result.prompt_logprobs[0] is None and len(result.prompt_logprobs) == len(prompt)
        with torch.no_grad():
            expected = model(torch.tensor([prompt])).logits[0].log_softmax(-1)
        for place, told in enumerate(result.prompt_logprobs[1:]):
            assert told is not None and told.rank is not None
            row, token = expected[place], prompt[place + 1]
            assert told.chosen == pytest.approx(row[token].item(), abs=1e-4)
            best = row.topk(3)
            assert [value for _, value in told.top] == pytest.approx(best.values.tolist(), abs=1e-4)
            # Neighbours in rank may stand closer to each other than the two models do.
            assert int((row > row[token] + 1e-4).sum()) < told.rank <= int((row >= row[token] - 1e-4).sum())


@pytest.mark.parametrize("pooling", POOLINGS)
def test_embeddings_equal_transformers(family: tuple[Any, LLM], pooling: Pooling) -> None:
    """What transformers calls the last hidden state, which is behind the last norm: its mean, and its last row."""
    model, llm = family
    vectors = llm.embed(PROMPTS, pooling=pooling, progress=False)
    assert vectors.dtype == np.float32 and vectors.shape == (len(PROMPTS), llm.info.hidden_size)
    for prompt, vector in zip(PROMPTS, vectors, strict=True):
        with torch.no_grad():
            states = model.base_model(torch.tensor([prompt])).last_hidden_state[0]
        expected = states.mean(0) if pooling == "mean" else states[-1]
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-4, rtol=0)


def test_answers_come_with_what_is_told_of_the_prompt(family: tuple[Any, LLM]) -> None:
    """And are the same without; a warm cache changes neither, and nor does the choice of several answers."""
    _, llm = family
    fields = {"seed": 4, "n": 2, "num_logprobs": 2}
    plain = llm.generate(PROMPTS, fields, max_tokens=9, ignore_eos=True, progress=False)
    read = llm.generate(PROMPTS, fields, max_tokens=9, ignore_eos=True, num_prompt_logprobs=0, progress=False)
    alone = llm.generate(PROMPTS, max_tokens=0, num_prompt_logprobs=0, progress=False)
    for prompt, own, other, bare in zip(PROMPTS, read, plain, alone, strict=True):
        assert [answer.token_ids for answer in own.answers] == [answer.token_ids for answer in other.answers]
        assert len(own.prompt_logprobs) == len(prompt) and other.prompt_logprobs == []
        assert own.num_cached_tokens == 0
        for one, two in zip(own.prompt_logprobs[1:], bare.prompt_logprobs[1:], strict=True):
            assert one is not None and two is not None
            assert one.chosen == pytest.approx(two.chosen, abs=1e-4)


def test_nothing_to_embed_gives_no_vectors(family: tuple[Any, LLM]) -> None:
    assert family[1].embed([], progress=False).shape == (0, family[1].info.hidden_size)


def test_what_cannot_be_read_is_refused_by_name(family: tuple[Any, LLM]) -> None:
    _, llm = family
    with pytest.raises(RequestRefused, match="at least 1, or 0 where something is asked about the prompt"):
        llm.generate([[1]], max_tokens=0, progress=False)
    with pytest.raises(RequestRefused, match=f"size of the vocabulary, {VOCAB_SIZE}"):
        llm.generate([[1]], num_prompt_logprobs=VOCAB_SIZE + 1, progress=False)
    with pytest.raises(RequestRefused, match="no tokens"):
        llm.embed([[1], []], progress=False)


@pytest.mark.parametrize("num_prompt_logprobs", [None, 0])
def test_token_ids_that_are_no_integers_are_refused(family: tuple[Any, LLM], num_prompt_logprobs: int | None) -> None:
    """1.5 was read as token 1 without a word, and where the prompt was read it broke the step."""
    _, llm = family
    with pytest.raises(RequestRefused, match="must be integers"):
        llm.generate([[1.5, 2]], num_prompt_logprobs=num_prompt_logprobs, progress=False)  # type: ignore[list-item]
    (result,) = llm.generate([np.array([1, 2])], num_prompt_logprobs=num_prompt_logprobs, progress=False)  # type: ignore[list-item]
    assert [type(token_id) for token_id in result.prompt_token_ids] == [int, int]


def test_a_model_that_gives_no_numbers_says_so(tmp_path: Path) -> None:
    """A weight of NaN: the request fails with a message, and the engine goes on to say the same of the next."""
    from safetensors.torch import load_file, save_file

    write_checkpoint(tmp_path, "llama")
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.norm.weight"][3] = torch.nan
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    llm = LLM(EngineConfig(model=str(tmp_path), dtype="float32", threads=1))
    with pytest.raises(RequestFailed, match="prompt 0: the model gave scores of the prompt that are not finite"):
        llm.generate([[1, 2, 3]], max_tokens=0, num_prompt_logprobs=1, progress=False)
    with pytest.raises(RequestFailed, match="prompt 0: the model gave hidden states of the prompt that are not finite"):
        llm.embed([[1, 2, 3]], progress=False)


@pytest.fixture(scope="module")
def invariant_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bfloat16 model with heads of 32 features, as invariant kernels on a CPU need them."""
    folder = tmp_path_factory.mktemp("invariant")
    write_checkpoint(folder, "llama", head_dim=32)
    return folder


def invariant(folder: Path, **fields: Any) -> LLM:
    config = EngineConfig(str(folder), dtype="bfloat16", batch_invariant=True, threads=1, max_rows=8)
    return LLM(replace(config, **{"max_batch_tokens": 512, **fields}))


NEEDS_BFLOAT16 = pytest.mark.skipif(not cpu_has_fast_bfloat16(), reason="the CPU has no bf16 instructions")


@pytest.mark.cpu
@NEEDS_BFLOAT16
@pytest.mark.parametrize("overlap", [False, True])
def test_a_token_has_the_same_bits_generated_and_read(invariant_folder: Path, overlap: bool) -> None:
    """Answers to a crowd of prompts, their tokens chosen one a step, launched ahead or not; then each prompt with its
    answer, read in one pass: the log-probabilities are the same floats. The likeliest tokens beside them are, too."""
    llm = invariant(invariant_folder, overlap=overlap)
    results = llm.generate(
        PROMPTS, {"seed": 3, "num_logprobs": 4}, max_tokens=21, ignore_eos=True, stop_token_ids=(), progress=False
    )
    longer = [[*prompt, *result.answers[0].token_ids] for prompt, result in zip(PROMPTS, results, strict=True)]
    read = llm.generate(longer, max_tokens=0, num_prompt_logprobs=4, progress=False)
    for generated, told in zip(results, read, strict=True):
        assert unranked(told.prompt_logprobs[-21:]) == generated.answers[0].logprobs


@pytest.mark.cpu
@NEEDS_BFLOAT16
def test_a_prompt_has_the_same_bits_however_it_is_computed(invariant_folder: Path) -> None:
    """Alone in one pass, in chunks, and in a crowd that decodes beside it: log-probabilities and embeddings."""
    whole, chunked = invariant(invariant_folder), invariant(invariant_folder, max_batch_tokens=13)
    alone = [whole.generate([each], max_tokens=0, num_prompt_logprobs=2, progress=False)[0] for each in PROMPTS]
    for llm in (whole, chunked):
        crowd = llm.generate(
            PROMPTS * 2, {"seed": 1}, max_tokens=[0] * 4 + [9] * 4, num_prompt_logprobs=2, progress=False
        )
        assert [each.prompt_logprobs for each in crowd] == [each.prompt_logprobs for each in alone] * 2
        for pooling in POOLINGS:
            vectors = llm.embed(PROMPTS * 2, pooling=pooling, progress=False)
            for prompt, vector in zip(PROMPTS * 2, vectors, strict=True):
                assert np.array_equal(vector, whole.embed([prompt], pooling=pooling, progress=False)[0])


def unranked(told: list[TokenLogprobs | None]) -> list[TokenLogprobs]:
    """As beside a generated token, of which no rank is told."""
    return [replace(one, rank=None) for one in told if one is not None]
