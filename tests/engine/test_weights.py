"""The setting `weights`: what the engine says of it, and where it is refused."""

from pathlib import Path

import pytest
from checkpoints import write_checkpoint

from penstock_engine.config import EngineConfig, WeightType
from penstock_engine.errors import EngineStartError
from penstock_engine.llm import LLM
from penstock_models.dtype import cpu_has_fast_bfloat16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder, "llama", head_dim=32)
    return folder


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_an_engine_with_weights_in_fewer_bits(folder: Path, weights: WeightType) -> None:
    """Also where a small bf16 model would be invariant if nothing were asked: with these weights it is not."""
    for dtype in ("float32", "bfloat16"):
        llm = LLM(EngineConfig(str(folder), dtype=dtype, device="cpu", weights=weights, threads=1))
        assert (llm.info.weights, llm.info.dtype, llm.info.kernels) == (weights, dtype, "reference")
        answer = llm.generate([[1, 2, 3]], {"temperature": 0}, max_tokens=4, ignore_eos=True, progress=False)[0]
        assert len(answer.answers[0].token_ids) == 4


def test_without(folder: Path) -> None:
    assert LLM(EngineConfig(str(folder), dtype="float32", threads=1)).info.weights == "float32"


@pytest.mark.skipif(not cpu_has_fast_bfloat16(), reason="the CPU has no bf16 instructions")
def test_refused_with_batch_invariance_on_a_cpu(folder: Path) -> None:
    config = EngineConfig(str(folder), dtype="bfloat16", device="cpu", weights="int4", batch_invariant=True)
    with pytest.raises(EngineStartError, match="batch_invariant is not possible here for int4 weights on cpu"):
        LLM(config)


def test_an_unknown_type_is_named(folder: Path) -> None:
    unknown: WeightType = "int3"  # type: ignore[assignment]
    with pytest.raises(EngineStartError, match="no weights 'int3'"):
        LLM(EngineConfig(str(folder), device="cpu", weights=unknown))
