"""What can be wrong with a checkpoint, a tree: catch `CheckpointError` for all of it.

CheckpointError
├── ConfigError                 config.json is missing, not JSON, or a field has an impossible value
│   └── UnsupportedModel        it asks for an architecture, rope type or activation that is not known here
└── WeightsError                the safetensors files do not fit the configuration
    ├── MissingFile             a file that must be there is not
    ├── BrokenFile              a safetensors file is truncated or its header lies
    ├── MissingTensor
    ├── UnexpectedTensor
    └── MisshapedTensor
"""

import difflib
from collections.abc import Collection


class CheckpointError(Exception):
    """Root: the message names the file, tensor or field at fault."""


class ConfigError(CheckpointError):
    """config.json is missing, not JSON, or a field has an impossible value."""


class UnsupportedModel(ConfigError):
    """The configuration is sound, but asks for something that is not known here."""

    @classmethod
    def unknown(cls, what: str, value: str, known: Collection[str]) -> "UnsupportedModel":
        """Names the value, the nearest known one if any is near, and all known ones."""
        near = difflib.get_close_matches(value, known, n=1)
        hint = f"; the nearest known one is {near[0]!r}" if near else ""
        return cls(f"unknown {what} {value!r}{hint}; known: {', '.join(sorted(known))}")


class WeightsError(CheckpointError):
    """The safetensors files do not fit the configuration."""


class MissingFile(WeightsError):
    """A file that must be there is not."""


class BrokenFile(WeightsError):
    """A safetensors file is truncated, or its header contradicts itself or the file."""


class MissingTensor(WeightsError):
    """The model needs a tensor that no file holds."""


class UnexpectedTensor(WeightsError):
    """A file holds a tensor that the model has no place for."""


class MisshapedTensor(WeightsError):
    """A tensor's shape or type is not what the configuration says."""
