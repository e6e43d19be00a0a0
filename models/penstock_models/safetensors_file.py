"""Reads safetensors files by plain reads at offsets, trusting nothing in the header.

    [8 bytes: header size N, little endian] [N bytes: JSON] [data, tensors back to back]

Not through a memory map: mapped pages count as this process's memory until the kernel takes them back, and a file that
shrinks under a map kills the process. Here a tensor's bytes go from the file straight to where they will stay.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from penstock_models.errors import BrokenFile, MisshapedTensor, MissingFile

# The limit of the safetensors library.
MAX_HEADER_BYTES = 100_000_000
_LFS_POINTER = b"version "  # how the small file begins that Git LFS leaves in place of a large one
# Converted or transposed tensors pass through a buffer of about this size.
STAGING_BYTES = 8 * 1024 * 1024

_FLOATS: Mapping[str, torch.dtype] = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
}
# Sizes of types that only tensors nobody reads may have, such as the mask buffers of old GPT-2 files.
_OTHER_SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "I32": 4, "U32": 4, "I64": 8, "U64": 8}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies: `num_bytes` from byte `offset` of the file."""

    name: str
    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    num_bytes: int

    def read(self, out: Tensor, staging: Tensor, *, transposed: bool = False) -> None:
        """Fill `out`, converting to its type; transposed means that the file holds [columns, rows].

        Args:
            out: contiguous, shape of the stored tensor (or its transpose), any device.
            staging: what `new_staging` gave; what passes through it stays there.

        Raises:
            MisshapedTensor: not a float type.
            BrokenFile: the file ends early.
        """
        with _open(self.path) as file:
            file.seek(self.offset)
            dtype = self.float_dtype()
            if dtype == out.dtype and out.device.type == "cpu" and not transposed:
                self._read_bytes(file, out)
                return
            target = out.t() if transposed else out
            row_bytes = max(self.num_bytes // max(len(target), 1), 1)
            for rows in torch.split(target, max(staging.nbytes // row_bytes, 1)):
                size = rows.numel() * dtype.itemsize
                # A row longer than the buffer gets its own.
                buffer = staging[:size] if size <= staging.nbytes else torch.empty(size, dtype=torch.uint8)
                piece = buffer.view(dtype).view(rows.shape)
                self._read_bytes(file, piece)
                rows.copy_(piece)

    def float_dtype(self) -> torch.dtype:
        """Raises MisshapedTensor where the stored type is not a float that weights may have."""
        if self.dtype not in _FLOATS:
            raise MisshapedTensor(
                f"tensor {self.name!r} in {self.path.name} has type {self.dtype}, not one of {', '.join(_FLOATS)}"
            )
        return _FLOATS[self.dtype]

    def _read_bytes(self, file: FileIO, out: Tensor) -> None:
        if out.numel() == 0:
            return
        view = out.view(-1).view(torch.uint8).numpy().data
        while view:
            count = file.readinto(view)
            if not count:
                raise BrokenFile(f"{self.path} ends inside tensor {self.name!r}")
            view = view[count:]


def new_staging() -> Tensor:
    """A buffer for `StoredTensor.read`, to be used for all tensors: fresh ones for each would scatter the heap."""
    return torch.empty(STAGING_BYTES, dtype=torch.uint8)


def read_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file, by name.

    Raises:
        MissingFile, BrokenFile
    """
    with _open(path) as file:
        file_size = path.stat().st_size
        prefix = file.read(8)
        if prefix == _LFS_POINTER:
            raise BrokenFile(f"{path} is a Git LFS pointer: the large file itself was not fetched (git lfs pull)")
        header_size = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or header_size < 2 or header_size > min(file_size - 8, MAX_HEADER_BYTES):
            raise BrokenFile(f"{path} is no safetensors file: {file_size} bytes, header of {header_size} bytes")
        raw = file.read(header_size)
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise BrokenFile(f"{path}: the header is not valid JSON: {error}") from error
    if not isinstance(header, dict):
        raise BrokenFile(f"{path}: the header is not an object")
    header.pop("__metadata__", None)
    data_start = 8 + header_size
    tensors = {name: _stored(name, fields, path, data_start) for name, fields in header.items()}
    _check_layout(path, list(tensors.values()), data_start, file_size)
    return tensors


def _open(path: Path) -> FileIO:
    try:
        return FileIO(path)
    except OSError as error:
        raise MissingFile(f"cannot read {path}: {error.strerror}") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a name occurs twice")
    return result


def _stored(name: str, fields: object, path: Path, data_start: int) -> StoredTensor:
    match fields:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]} if (
            all(isinstance(size, int) and size >= 0 for size in shape) and 0 <= begin <= end
        ):
            tensor = StoredTensor(name, path, dtype, tuple(shape), data_start + begin, end - begin)
        case _:
            raise BrokenFile(f"{path}: the header's entry for tensor {name!r} is malformed")
    item_size = _FLOATS[dtype].itemsize if dtype in _FLOATS else _OTHER_SIZES.get(dtype)
    if item_size is not None and math.prod(shape) * item_size != tensor.num_bytes:
        raise BrokenFile(f"{path}: tensor {name!r} of {dtype} {list(shape)} cannot have {tensor.num_bytes} bytes")
    return tensor


def _check_layout(path: Path, tensors: list[StoredTensor], data_start: int, file_size: int) -> None:
    """The format wants the data back to back, without overlap, to the end of the file."""
    position = data_start
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.num_bytes)):
        end = tensor.offset + tensor.num_bytes
        if end > file_size:
            raise BrokenFile(f"{path} is truncated: tensor {tensor.name!r} ends at byte {end} of {file_size}")
        if tensor.offset != position:
            raise BrokenFile(f"{path}: tensor {tensor.name!r} starts at byte {tensor.offset}, not at {position}")
        position = end
    if position != file_size:
        raise BrokenFile(f"{path} has {file_size - position} bytes after its last tensor")
