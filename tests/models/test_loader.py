"""The loader: what it takes, and that each thing wrong with a checkpoint is told by name."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from checkpoints import write_checkpoint
from paged_rows import PagedRows
from torch import Tensor

from penstock_kernels import Kernels
from penstock_models import errors
from penstock_models.dtype import DTypeName
from penstock_models.loader import LoadedModel, load_checkpoint

Edit = Callable[[dict[str, Tensor]], object]
CPU = torch.device("cpu")


def load(folder: Path, dtype: DTypeName = "float32") -> LoadedModel:
    return load_checkpoint(folder, dtype=dtype, device=CPU, kernels=Kernels.reference())


@pytest.fixture
def folder(llama_folder: Path, tmp_path: Path) -> Path:
    """A copy of the Llama checkpoint that the test may spoil."""
    return Path(shutil.copytree(llama_folder, tmp_path / "checkpoint"))


def edit_tensors(folder: Path, edit: Edit) -> None:
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load(path.read_bytes())
    edit(tensors)
    path.write_bytes(safetensors.torch.save(tensors))


def edit_config(folder: Path, **fields: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def logits(model: LoadedModel) -> Tensor:
    return PagedRows(model.decoder).feed({0: [5, 6, 7]})[0]


def test_what_a_loaded_model_tells(folder: Path) -> None:
    model = load(folder, "auto")
    assert (model.architecture, model.dtype, model.max_positions) == ("LlamaForCausalLM", "float32", 256)
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    assert model.num_parameters == sum(tensor.numel() for tensor in stored.values())


def test_ends_of_text_come_from_the_generation_config_first(folder: Path) -> None:
    assert load(folder).eos_token_ids == (0,)
    (folder / "generation_config.json").write_text('{"eos_token_id": [4, 5, 4]}')
    assert load(folder).eos_token_ids == (4, 5)
    (folder / "generation_config.json").write_text("{}")
    assert load(folder).eos_token_ids == (0,)
    edit_config(folder, eos_token_id="</s>")
    with pytest.raises(errors.ConfigError, match=r"eos_token_id is '</s>'"):
        load(folder)


def test_both_spellings_of_a_config(folder: Path, llama: LoadedModel) -> None:
    config = json.loads((folder / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config["torch_dtype"] = config.pop("dtype")
    config["rope_theta"] = rope["rope_theta"]
    config["rope_scaling"] = {"type": "linear", "factor": 3.0}
    (folder / "config.json").write_text(json.dumps(config))
    old = load(folder)
    config["rope_parameters"] = {"rope_type": "linear", "factor": 3.0, "rope_theta": rope["rope_theta"]}
    del config["rope_theta"], config["rope_scaling"]
    (folder / "config.json").write_text(json.dumps(config))
    assert old.spec == load(folder).spec
    assert old.spec.positions != llama.spec.positions


def test_shards_are_as_good_as_one_file(folder: Path, llama: LoadedModel, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "shards", "llama", max_shard_size="100KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 3
    assert torch.equal(logits(load(tmp_path / "shards")), logits(llama))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_type_may_be_asked_for(folder: Path, llama: LoadedModel, dtype: DTypeName) -> None:
    model = load(folder, dtype)
    assert model.dtype == dtype and model.decoder.dtype == getattr(torch, dtype)
    expected = logits(llama)
    assert (logits(model) - expected).abs().mean() < 0.05 * expected.std()


def test_gpt2_without_its_prefix_and_with_old_buffers(tmp_path: Path) -> None:
    """The first GPT-2 files were written from the bare model, with its causal masks as tensors."""
    write_checkpoint(tmp_path, "gpt2")
    expected = logits(load(tmp_path))

    def age(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        for layer in range(3):
            tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.bool)
            tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)

    edit_tensors(tmp_path, age)
    assert torch.equal(logits(load(tmp_path)), expected)


def test_harmless_extras(folder: Path) -> None:
    def add(tensors: dict[str, Tensor]) -> None:
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(10)
        tensors["lm_head.weight"] = torch.full((272, 120), 7.0)

    edit_config(folder, tie_word_embeddings=True)
    edit_tensors(folder, lambda tensors: tensors.pop("lm_head.weight"))
    without = load(folder)
    edit_tensors(folder, add)
    model = load(folder)
    assert model.num_parameters == without.num_parameters
    assert torch.equal(logits(model), logits(without))


def test_code_named_by_a_config_is_not_run(folder: Path, llama: LoadedModel) -> None:
    edit_config(folder, auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})
    (folder / "modeling_evil.py").write_text("raise SystemExit('executed')")
    assert torch.equal(logits(load(folder)), logits(llama))


Q_PROJ = "model.layers.1.self_attn.q_proj.weight"

SPOILED_TENSORS: list[Any] = [
    pytest.param(lambda t: t.pop(Q_PROJ), errors.MissingTensor, [Q_PROJ], id="missing"),
    pytest.param(lambda t: t.pop("lm_head.weight"), errors.MissingTensor, ["lm_head.weight"], id="untied, no head"),
    pytest.param(
        lambda t: t.update({"model.layers.9.mlp.up_proj.weight": torch.ones(2, 2)}),
        errors.UnexpectedTensor,
        ["model.layers.9.mlp.up_proj.weight", "model.safetensors"],
        id="unexpected",
    ),
    pytest.param(
        lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": torch.ones(120)}),
        errors.UnexpectedTensor,
        ["q_proj.bias"],
        id="a bias that the config denies",
    ),
    pytest.param(
        lambda t: t.update({Q_PROJ: torch.ones(120, 121)}),
        errors.MisshapedTensor,
        [Q_PROJ, "[120, 121]", "[120, 120]"],
        id="misshaped",
    ),
    pytest.param(
        lambda t: t.update({Q_PROJ: torch.ones(120, 120, dtype=torch.int8)}),
        errors.MisshapedTensor,
        [Q_PROJ, "I8"],
        id="quantised",
    ),
]


@pytest.mark.parametrize(("edit", "error", "told"), SPOILED_TENSORS)
def test_spoiled_tensors(folder: Path, edit: Edit, error: type[Exception], told: list[str]) -> None:
    edit_tensors(folder, edit)
    with pytest.raises(error) as caught:
        load(folder)
    for part in told:
        assert part in str(caught.value)


SPOILED_CONFIGS: list[Any] = [
    pytest.param({"architectures": ["LlamaForCausalLm"]}, ["'LlamaForCausalLm'", "nearest", "'LlamaForCausalLM'"]),
    pytest.param({"architectures": ["MambaForCausalLM"]}, ["'MambaForCausalLM'", "Qwen3ForCausalLM"]),
    pytest.param({"architectures": None}, ["architectures"]),
    pytest.param({"architectures": []}, ["architectures"]),
    pytest.param({"hidden_act": "geglu"}, ["'geglu'", "gelu"]),
    pytest.param({"rope_parameters": {"rope_type": "yarnn", "factor": 2.0}}, ["rope type 'yarnn'", "'yarn'"]),
    pytest.param({"rope_parameters": {"rope_type": "longrope"}}, ["rope type 'longrope'"]),
    pytest.param({"rope_parameters": {"rope_type": "linear"}}, ["rope_parameters", "factor"]),
    pytest.param({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, ["differs between layers"]),
    pytest.param({"partial_rotary_factor": 0.5}, ["partial_rotary_factor"]),
    pytest.param({"head_dim": 21}, ["21 features"]),
    pytest.param({"rope_parameters": [1]}, ["rope_parameters is [1]"]),
    pytest.param({"hidden_size": "120"}, ["hidden_size is '120'"]),
    pytest.param({"num_hidden_layers": None}, ["num_hidden_layers"]),
    pytest.param({"num_key_value_heads": 4}, ["6 query heads", "4 key heads"]),
    pytest.param({"rms_norm_eps": -1}, ["rms_norm_eps is -1"]),
    pytest.param({"tie_word_embeddings": "no"}, ["tie_word_embeddings is 'no'"]),
    pytest.param({"quantization_config": {"quant_method": "gptq"}}, ["quantised", "gptq"]),
]


@pytest.mark.parametrize(("fields", "told"), SPOILED_CONFIGS)
def test_spoiled_configs(folder: Path, fields: dict[str, object], told: list[str]) -> None:
    edit_config(folder, **fields)
    with pytest.raises(errors.ConfigError) as caught:
        load(folder)
    for part in told:
        assert part in str(caught.value)


@pytest.mark.parametrize(("text", "told"), [("{", "not JSON"), ("[]", "not an object"), ("[" * 100_000, "not JSON")])
def test_a_config_that_is_no_object(folder: Path, text: str, told: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(errors.ConfigError, match=told):
        load(folder)


def test_no_config(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match=r"config\.json"):
        load(tmp_path)


def test_pickles_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(errors.MissingFile, match=r"neither model\.safetensors"):
        load(folder)
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(errors.MissingFile, match=r"pytorch_model\.bin.*convert.*safetensors"):
        load(folder)


def header_of(entries: object, data: bytes = bytes(8)) -> bytes:
    raw = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(shape: object, begin: object, end: object, dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


BROKEN_FILES: list[Any] = [
    pytest.param(b"", "0 bytes", id="empty"),
    pytest.param(bytes(7), "7 bytes", id="seven bytes"),
    pytest.param(struct.pack("<Q", 2**63) + b"{}", "header of", id="huge header"),
    pytest.param(struct.pack("<Q", 99) + b"{}", "header of 99 bytes", id="header past the end"),
    pytest.param(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer", id="LFS pointer"),
    pytest.param(header_of(b"{nonsense"), "not valid JSON", id="not JSON"),
    pytest.param(header_of(b"\xff\xfe"), "not valid JSON", id="not UTF-8"),
    pytest.param(header_of(b"[" * 100_000), "not valid JSON", id="deep"),
    pytest.param(header_of([]), "not an object", id="list"),
    pytest.param(header_of(b'{"a": {}, "a": {}}'), "a name occurs twice", id="twice"),
    pytest.param(header_of({"a": 1}), "'a' is malformed", id="no entry"),
    pytest.param(header_of({"a": entry([2], 0, "8")}), "'a' is malformed", id="text offset"),
    pytest.param(header_of({"a": entry([-2], 0, 8)}), "'a' is malformed", id="negative size"),
    pytest.param(header_of({"a": entry([2], -8, 0)}), "'a' is malformed", id="negative offset"),
    pytest.param(header_of({"a": entry([2], 8, 0)}), "'a' is malformed", id="backwards"),
    pytest.param(header_of({"a": entry([3], 0, 8)}), "'a' of F32", id="size and shape disagree"),
    pytest.param(header_of({"a": entry([2**40, 2**40], 0, 8)}), "'a' of F32", id="overflow"),
    pytest.param(header_of({"a": entry([4], 0, 16)}), "truncated: tensor 'a'", id="truncated"),
    pytest.param(header_of({"a": entry([2], 0, 8), "b": entry([1], 4, 8)}), "'b' starts at", id="overlap"),
    pytest.param(header_of({"a": entry([1], 4, 8)}), "'a' starts at", id="hole"),
    pytest.param(header_of({"a": entry([1], 0, 4)}), "4 bytes after", id="trailing bytes"),
]


@pytest.mark.parametrize(("content", "told"), BROKEN_FILES)
def test_broken_files(folder: Path, content: bytes, told: str) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(errors.BrokenFile) as caught:
        load(folder)
    assert told in str(caught.value) and "model.safetensors" in str(caught.value)


def test_a_truncated_download(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(errors.BrokenFile, match="truncated"):
        load(folder)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path, "llama", max_shard_size="100KB")
    return tmp_path


def edit_index(folder: Path, edit: Callable[[dict[str, str]], object]) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    edit(index["weight_map"])
    path.write_text(json.dumps(index))


def test_a_shard_that_is_not_there(sharded: Path) -> None:
    gone = sorted(sharded.glob("model-*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(errors.MissingFile) as caught:
        load(sharded)
    assert gone.name in str(caught.value)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "model.bin"])
def test_an_index_cannot_reach_outside(sharded: Path, name: str) -> None:
    edit_index(sharded, lambda weight_map: weight_map.update({Q_PROJ: name}))
    with pytest.raises(errors.BrokenFile) as caught:
        load(sharded)
    assert name in str(caught.value)


def test_an_index_that_promises_too_much(sharded: Path) -> None:
    edit_index(sharded, lambda weight_map: weight_map.update({"ghost": weight_map[Q_PROJ]}))
    with pytest.raises(errors.MissingTensor, match="'ghost'"):
        load(sharded)


def test_a_tensor_in_two_shards(sharded: Path) -> None:
    first, second = sorted(sharded.glob("model-*.safetensors"))[:2]
    tensors = safetensors.torch.load_file(first) | safetensors.torch.load_file(second)
    first.write_bytes(safetensors.torch.save(tensors))
    with pytest.raises(errors.BrokenFile, match=f"both in {first.name} and in {second.name}"):
        load(sharded)


def test_an_index_without_a_map(sharded: Path) -> None:
    (sharded / "model.safetensors.index.json").write_text('{"weight_map": {"a": 1}}')
    with pytest.raises(errors.BrokenFile, match="no weight_map"):
        load(sharded)
