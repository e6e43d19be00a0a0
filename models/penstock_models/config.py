"""Reading the JSON files of a checkpoint folder. Torch-free; nothing in the folder is ever executed.

`auto_map`, by which a config.json names Python files to import, is not looked at.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock_models.errors import ConfigError

# A configuration is a few kilobytes; a tokenizer's is read elsewhere.
MAX_JSON_BYTES = 16 * 1024 * 1024


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ConfigError: the file is missing, too large, not JSON, or not an object.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_JSON_BYTES} bytes")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} holds a {type(value).__name__}, not an object")
    return value


def eos_token_ids(folder: Path) -> tuple[int, ...]:
    """The ids that end an answer: of generation_config.json if it names any, else of config.json; perhaps none.

    Raises:
        ConfigError: a file cannot be read, or `eos_token_id` is neither an id nor a list of ids.
    """
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        if not path.exists():
            continue
        ids = read_json(path).get("eos_token_id")
        ids = [ids] if isinstance(ids, int) else ids
        if ids is None:
            continue
        if not isinstance(ids, list) or not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids):
            raise ConfigError(f"{path}: eos_token_id is {ids!r}, not a token id or a list of them")
        return tuple(dict.fromkeys(ids))
    return ()


def max_positions(config: Mapping[str, Any]) -> int:
    """The longest context of a model, by its config.json, in tokens.

    Raises:
        ConfigError: it is not stated.
    """
    for key in ("max_position_embeddings", "n_positions"):
        value = config.get(key)
        if isinstance(value, int) and value > 0:
            return value
    raise ConfigError("config.json states no max_position_embeddings")
