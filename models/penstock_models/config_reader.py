"""`ConfigReader`: typed, checked access to a config.json, in the spelling of transformers 4 and of transformers 5.

It refuses what it does not know instead of guessing. Torch-free.
"""

import math
from collections.abc import Mapping
from typing import Any

from penstock_models.errors import ConfigError, UnsupportedModel
from penstock_models.spec import (
    Activation,
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    RopeScaling,
    RotaryPositions,
    YarnScaling,
)

_ACTIVATIONS: Mapping[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
_ROPE_TYPES = ("default", "linear", "dynamic", "llama3", "yarn")


class ConfigReader:
    """A JSON object whose fields are read by name and type; null counts as absent.

    Every method raises ConfigError, naming the field, where a value is absent without a default or of another type.
    """

    def __init__(self, fields: Mapping[str, Any], where: str = "config.json") -> None:
        self._fields = fields
        self._where = where

    def integer(self, name: str, default: int | None = None) -> int:
        """A positive integer."""
        value = self._get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self._wrong(name, value, "a positive integer")
        return value

    def count(self, name: str, default: int) -> int:
        """An integer of at least 0."""
        value = self._get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._wrong(name, value, "an integer of at least 0")
        return value

    def optional_integer(self, name: str) -> int | None:
        return None if self._fields.get(name) is None else self.integer(name)

    def number(self, name: str, default: float | None = None) -> float:
        """A positive finite number."""
        value = self._get(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
            raise self._wrong(name, value, "a positive number")
        return float(value)

    def window(self, name: str, default: int) -> int | None:
        """A sliding window: `default` where the field is absent, None where it is null."""
        if name in self._fields and self._fields[name] is None:
            return None
        return self.integer(name, default)

    def optional_number(self, name: str) -> float | None:
        return None if self._fields.get(name) is None else self.number(name)

    def boolean(self, name: str, default: bool) -> bool:
        value = self._get(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        value = self._get(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, value, "a string")
        return value

    def texts(self, name: str) -> list[str] | None:
        """A list of strings, or None if absent."""
        value = self._fields.get(name)
        if value is not None and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise self._wrong(name, value, "a list of strings")
        return value

    def activation(self, name: str, default: str) -> Activation:
        """Raises UnsupportedModel for an activation that is not known here."""
        value = self.text(name, default)
        if value not in _ACTIVATIONS:
            raise UnsupportedModel.unknown("activation", value, _ACTIVATIONS)
        return _ACTIVATIONS[value]

    def rope(self, head_size: int, max_positions: int) -> RotaryPositions:
        """The rotary positions, from `rope_parameters` or from `rope_theta` and `rope_scaling`.

        Raises:
            UnsupportedModel: a rope type that is not known here, heads rotated in part, or ropes that differ by layer.
        """
        name = "rope_parameters" if self._fields.get("rope_parameters") is not None else "rope_scaling"
        fields = self._fields.get(name) or {}
        if not isinstance(fields, Mapping):
            raise self._wrong(name, fields, "an object")
        if any(isinstance(value, Mapping) for value in fields.values()):
            raise UnsupportedModel(f"{self._where}: {name} differs between layers, which is not supported")
        # Either spelling may keep the base and the share outside the object.
        outside = {key: self._fields.get(key) for key in ("rope_theta", "partial_rotary_factor")}
        rope = ConfigReader({**outside, **fields}, f"{self._where}: {name}")
        if rope.number("partial_rotary_factor", 1.0) != 1.0:
            raise UnsupportedModel(f"{self._where}: a partial_rotary_factor is not supported")
        if head_size % 2:
            raise ConfigError(f"{self._where}: heads of {head_size} features cannot be rotated in pairs")
        original = self.optional_integer("original_max_position_embeddings")
        return RotaryPositions(rope.number("rope_theta", 10000.0), head_size, rope._scaling(original, max_positions))

    def _scaling(self, original: int | None, max_positions: int) -> RopeScaling | None:
        kind = self.text("rope_type", self.text("type", "default"))
        # Like transformers: a length stated beside `rope_parameters` comes before one stated in it.
        trained = original or self.integer("original_max_position_embeddings", max_positions)
        match kind:
            case "default":
                return None
            case "linear":
                return LinearScaling(self.number("factor"))
            case "dynamic":
                return DynamicScaling(self.number("factor"), max_positions)
            case "llama3":
                return Llama3Scaling(
                    factor=self.number("factor"),
                    low_freq_factor=self.number("low_freq_factor"),
                    high_freq_factor=self.number("high_freq_factor"),
                    original_max_positions=trained,
                )
            case "yarn":
                return self._yarn(trained, max_positions)
            case _:
                raise UnsupportedModel.unknown("rope type", kind, _ROPE_TYPES)

    def _yarn(self, trained: int, max_positions: int) -> YarnScaling:
        factor = self.number("factor", max_positions / trained)
        mscale, mscale_all = self.optional_number("mscale"), self.optional_number("mscale_all_dim")
        attention_factor = self.optional_number("attention_factor")
        if attention_factor is None and mscale and mscale_all:
            attention_factor = _yarn_mscale(factor, mscale) / _yarn_mscale(factor, mscale_all)
        elif attention_factor is None:
            attention_factor = _yarn_mscale(factor, 1.0)
        return YarnScaling(
            factor=factor,
            original_max_positions=trained,
            beta_fast=self.number("beta_fast", 32.0),
            beta_slow=self.number("beta_slow", 1.0),
            attention_factor=attention_factor,
            truncate=self.boolean("truncate", True),
        )

    def _get(self, name: str, default: object) -> object:
        value = self._fields.get(name)
        if value is not None:
            return value
        if default is None:
            raise ConfigError(f"{self._where} states no {name}")
        return default

    def _wrong(self, name: str, value: object, wanted: str) -> ConfigError:
        return ConfigError(f"{self._where}: {name} is {value!r}, not {wanted}")


def _yarn_mscale(factor: float, mscale: float) -> float:
    """YaRN, section 3.4: sqrt(1 / t) = 0.1 ln(s) + 1."""
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0
