"""`load_checkpoint`: a folder with config.json and safetensors becomes a decoder.

Tensors are read one by one, each straight to its place in a fused parameter, so that the peak is the weights and one
parameter more. Nothing is unpickled and no code of the folder runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from penstock_kernels import Kernels
from penstock_models.architecture import read_spec
from penstock_models.checkpoint_files import stored_tensors
from penstock_models.config import eos_token_ids, read_json
from penstock_models.decoder import Decoder
from penstock_models.dtype import DTypeName, choose_dtype, cpu_has_fast_bfloat16
from penstock_models.errors import MisshapedTensor, MissingTensor, UnexpectedTensor
from penstock_models.families.family import Family
from penstock_models.parameters import Parameter, list_parameters
from penstock_models.safetensors_file import StoredTensor, new_staging
from penstock_models.spec import ModelSpec
from penstock_models.weights import build_weights


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A decoder and what its checkpoint says beside the weights. `dtype_reason` is why the type was taken."""

    decoder: Decoder
    spec: ModelSpec
    architecture: str
    eos_token_ids: tuple[int, ...]
    max_positions: int
    num_parameters: int
    dtype: str
    dtype_reason: str


def load_checkpoint(folder: Path, *, dtype: DTypeName, device: torch.device, kernels: Kernels) -> LoadedModel:
    """Load a checkpoint.

    Raises:
        CheckpointError: see the tree in `errors`; the message names the file, tensor or field at fault. Names and
            shapes are checked before any tensor is read.
    """
    family, spec = read_spec(read_json(folder / "config.json"))
    sources = _match(family, spec, stored_tensors(folder))
    stored = sources["embedding", "weight", None][0].float_dtype()
    choice = choose_dtype(dtype, stored, device, fast_bfloat16=cpu_has_fast_bfloat16())

    staging = new_staging()

    def fill(parameter: Parameter, out: Tensor) -> None:
        tensors = sources[_key(parameter)]
        # Parts are stacked by rows, so each is a contiguous piece of the parameter.
        pieces = torch.split(out, list(parameter.parts)) if len(tensors) > 1 else (out,)
        for tensor, piece in zip(tensors, pieces, strict=True):
            tensor.read(piece, staging, transposed=_is_transposed(family, parameter))

    weights = build_weights(spec, fill, dtype=choice.dtype, device=device, kernels=kernels)
    return LoadedModel(
        decoder=Decoder(spec, weights, kernels),
        spec=spec,
        architecture=spec.architecture,
        eos_token_ids=eos_token_ids(folder),
        max_positions=spec.max_positions,
        num_parameters=weights.num_parameters,
        dtype=choice.name,
        dtype_reason=choice.reason,
    )


_Key = tuple[str, str, int | None]


def _key(parameter: Parameter) -> _Key:
    return parameter.module, parameter.kind, parameter.layer


def _is_transposed(family: Family, parameter: Parameter) -> bool:
    """Only linear layers are ever stored transposed: inside the layers, with columns."""
    return family.transposed and parameter.layer is not None and parameter.columns is not None


def _match(family: Family, spec: ModelSpec, stored: Mapping[str, StoredTensor]) -> dict[_Key, tuple[StoredTensor, ...]]:
    """The stored tensors of each parameter, after checking that they are all there, fit, and are all that is there."""
    unused = dict(stored)
    sources = {}
    for parameter in list_parameters(spec):
        tensors = []
        for name in family.tensor_names(parameter):
            found = name if name in unused else name.removeprefix(family.optional_prefix)
            if found not in unused:
                raise MissingTensor(f"tensor {name!r} is in no file of the checkpoint")
            tensors.append(unused.pop(found))
        _check_shapes(family, parameter, tensors)
        sources[_key(parameter)] = tuple(tensors)
    if spec.tied_head:
        # Some files repeat the embedding under the head's name; the embedding is what counts.
        unused.pop(f"{family.names['head'][0]}.weight", None)
    for name, tensor in unused.items():
        if not family.ignored.fullmatch(name):
            raise UnexpectedTensor(f"{tensor.path.name} holds tensor {name!r}, which {spec.architecture} does not use")
    return sources


def _check_shapes(family: Family, parameter: Parameter, tensors: list[StoredTensor]) -> None:
    rows = parameter.parts if len(tensors) > 1 else (sum(parameter.parts),)
    for tensor, count in zip(tensors, rows, strict=True):
        shape = (count,) if parameter.columns is None else (count, parameter.columns)
        shape = shape[::-1] if _is_transposed(family, parameter) else shape
        if tensor.shape != shape:
            raise MisshapedTensor(
                f"tensor {tensor.name!r} in {tensor.path.name} has shape {list(tensor.shape)},"
                f" but config.json makes it {list(shape)}"
            )
        tensor.float_dtype()
