"""The tensors of a checkpoint folder, from one safetensors file or from the shards of an index."""

from pathlib import Path

from penstock_models.config import read_json
from penstock_models.errors import BrokenFile, MissingFile, MissingTensor
from penstock_models.safetensors_file import StoredTensor, read_header

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of the folder, by name. Only headers are read.

    Raises:
        MissingFile: no safetensors weights, or a shard that the index names is not there.
        BrokenFile: a file or the index is malformed, or two shards hold the same tensor.
        MissingTensor: the index promises a tensor that its shard does not hold.
        ConfigError: the index is not JSON.
    """
    if (folder / SINGLE).exists():
        return read_header(folder / SINGLE)
    if not (folder / INDEX).exists():
        raise MissingFile(_no_weights(folder))
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise BrokenFile(f"{folder / INDEX} has no weight_map from tensor to file")
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted(set(weight_map.values())):
        # A name, never a path: an index must not reach outside its folder.
        if shard != Path(shard).name or not shard.endswith(".safetensors"):
            raise BrokenFile(f"{folder / INDEX} names {shard!r}, which is not a safetensors file of the folder")
        if not (folder / shard).exists():
            raise MissingFile(f"{folder / shard} is missing, but {INDEX} names it")
        header = read_header(folder / shard)
        for name in tensors.keys() & header.keys():
            raise BrokenFile(f"tensor {name!r} is both in {tensors[name].path.name} and in {shard}")
        tensors |= header
    for name, shard in weight_map.items():
        if name not in tensors or tensors[name].path.name != shard:
            raise MissingTensor(f"{INDEX} says that tensor {name!r} is in {shard}, but it is not")
    return tensors


def _no_weights(folder: Path) -> str:
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    if pickles:
        return (
            f"{folder} has {pickles[0]} but no {SINGLE}. Pickled weights can run code when they are read, so they are"
            " not read here; convert the checkpoint to safetensors"
            " (transformers: save_pretrained writes it)"
        )
    return f"{folder} has neither {SINGLE} nor {INDEX}"
