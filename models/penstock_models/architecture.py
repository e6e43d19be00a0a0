"""From a config.json to its family and `ModelSpec`. Torch-free."""

from collections.abc import Mapping
from typing import Any

from penstock_models.config_reader import ConfigReader
from penstock_models.errors import ConfigError, UnsupportedModel
from penstock_models.families import FAMILIES
from penstock_models.families.family import Family
from penstock_models.spec import ModelSpec


def read_spec(config: Mapping[str, Any]) -> tuple[Family, ModelSpec]:
    """The family that `architectures` names, and what the family reads in the rest.

    Raises:
        UnsupportedModel: an architecture, rope type, activation or quantisation that is not known here.
        ConfigError: a field is missing or impossible.
    """
    reader = ConfigReader(config)
    architectures = reader.texts("architectures")
    if not architectures:
        raise ConfigError("config.json states no architectures")
    architecture = architectures[0]
    if architecture not in FAMILIES:
        raise UnsupportedModel.unknown("architecture", architecture, FAMILIES)
    if config.get("quantization_config") is not None:
        raise UnsupportedModel(f"config.json: quantised weights are not supported: {config['quantization_config']!r}")
    family = FAMILIES[architecture]
    try:
        return family, family.spec(architecture, reader)
    except ValueError as error:
        raise ConfigError(f"config.json: {error}") from error
