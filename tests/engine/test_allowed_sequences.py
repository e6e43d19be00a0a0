"""Allowed sequences on a real (tiny) model: the same searches in transformers, and texts by way of `LLM`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import write_checkpoint
from scripted_engine import make_request

from penstock_engine.config import EngineConfig
from penstock_engine.errors import RequestFailed, RequestRefused
from penstock_engine.llm import LLM
from penstock_engine.messages import ENCODER, TO_ENGINE, Submit, pack_request, unpack_request

END = 2
PROMPT = [5, 6, 7, 30]
# 60 sequences of 1 to 4 tokens that share beginnings; some begin others.
SEQUENCES = [(10 + i % 5, *(20 + (i * step) % 7 for step in range(1, 1 + i % 4))) for i in range(60)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("llm")


@pytest.fixture(scope="module")
def oracle(folder: Path) -> Any:
    """The transformers model of the checkpoint in `folder`."""
    return write_checkpoint(folder, "llama")


@pytest.fixture(scope="module")
def llm(oracle: Any, folder: Path) -> LLM:
    return LLM(EngineConfig(model=str(folder), dtype="float32", threads=1), tokenizer=Letters())


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """`LLM` sets torch's thread count for its process; other tests get theirs back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Letters:
    """A codec of one token per letter, for texts among the parameters."""

    def vocabulary(self) -> None:
        """None: no grammar is asked for."""

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    at_start = within = holding = encode

    def encoder(self) -> "Letters":
        return self

    def open_stream(self, stop: Sequence[str] = ()) -> "Letters":
        return self

    def push(self, token_ids: Sequence[int]) -> tuple[str, bool]:
        return "".join(map(chr, token_ids)), False

    def finish(self) -> str:
        return ""


def allowed(_: int, ids: torch.Tensor) -> list[int]:
    """transformers' `prefix_allowed_tokens_fn`: by looking through all sequences."""
    output = tuple(ids[len(PROMPT) :].tolist())
    on = {s[len(output)] for s in SEQUENCES if len(s) > len(output) and s[: len(output)] == output}
    return sorted(on | ({END} if output in SEQUENCES or END in output else set()))


@pytest.mark.parametrize("width", [1, 3, 8])
def test_beam_search_equals_transformers(llm: LLM, oracle: Any, width: int) -> None:
    """Beam search over the sequences: the same answers with the same scores."""
    decoding = {"strategy": "beam", "width": width} if width > 1 else {"strategy": "greedy"}
    fields = {"decoding": decoding, "n": width, "allowed_sequences": SEQUENCES}
    (result,) = llm.generate([PROMPT], fields, max_tokens=8, stop_token_ids=[END], ignore_eos=True, progress=False)
    expected = oracle.generate(
        torch.tensor([PROMPT]),
        max_new_tokens=8,
        num_beams=width,
        num_return_sequences=width,
        do_sample=False,
        eos_token_id=END,
        pad_token_id=END,
        prefix_allowed_tokens_fn=allowed,
        renormalize_logits=True,
        return_dict_in_generate=True,
        output_scores=True,
    )
    if width > 1:
        assert (-expected.sequences_scores.diff() > 1e-3).all(), "too close for rounding not to matter"
    for i, answer in enumerate(result.answers):
        told = expected.sequences[i, len(PROMPT) :].tolist()
        assert answer.token_ids == told[: told.index(END) + 1]
        assert tuple(answer.token_ids[:-1]) in SEQUENCES
        if width > 1:
            assert answer.score == pytest.approx(expected.sequences_scores[i].item(), abs=1e-4)


def test_parameters_travel() -> None:
    """Packed sequences and groups of words reach the engine's process as they were."""
    decoding = {"strategy": "constrained_beam", "width": 3, "words": [[1, 2]], "any_of": [[[3], [4, 5]]]}
    request = make_request("a", [1], {"decoding": decoding, "allowed_sequences": [[3, 1, 2], [1, 2, 4, 5]], "seed": 1})
    message = TO_ENGINE.decode(ENCODER.encode(pack_request(7, request)))
    assert isinstance(message, Submit)
    assert unpack_request(message, "a") == request


def test_texts(llm: LLM) -> None:
    """Texts among the parameters of a processor and of a strategy become tokens by the codec's encoder."""
    fields: list[dict[str, object]] = [
        {"allowed_texts": ["red", "green", "greener"], "seed": seed} for seed in range(8)
    ]
    results = llm.generate([PROMPT] * 8, fields, max_tokens=9, stop_token_ids=[END], ignore_eos=True, progress=False)
    texts = {result.answers[0].text for result in results}
    assert texts <= {"red", "green", "greener"} and len(texts) > 1
    beam = {"decoding": {"strategy": "constrained_beam", "width": 2, "texts": ["cat", "dog"]}}
    (result,) = llm.generate([PROMPT], beam, max_tokens=8, ignore_eos=True, progress=False)
    assert "cat" in result.answers[0].text and "dog" in result.answers[0].text
    with pytest.raises(RequestRefused, match="need at least 3 tokens"):
        llm.generate([PROMPT], beam, max_tokens=2, ignore_eos=True, progress=False)
    with pytest.raises(RequestFailed, match="without an answer"):
        llm.generate([PROMPT], beam, max_tokens=5, ignore_eos=True, progress=False)
