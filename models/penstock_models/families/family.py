"""`Family`: how to read one family's configuration, and what its checkpoints call each parameter. Torch-free."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from penstock_models.config_reader import ConfigReader
from penstock_models.parameters import Module, Parameter
from penstock_models.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Family:
    """One family of checkpoints.

    spec: reads a config.json; its first argument is the architecture's name.
    names: what each module's tensors are called, without the kind (weight, bias); `{layer}` stands for the layer. One
        name for each part of the parameter, or a single name where the checkpoint stores the parts as one tensor.
    optional_prefix: a prefix of the names that some checkpoints of the family leave out.
    transposed: linear layers are stored [inputs, outputs].
    ignored: tensors that older checkpoints carry and the model computes by itself; matched whole.
    """

    spec: Callable[[str, ConfigReader], ModelSpec]
    names: Mapping[Module, tuple[str, ...]]
    optional_prefix: str = ""
    transposed: bool = False
    ignored: re.Pattern[str] = re.compile(r".*\.rotary_emb\.inv_freq")

    def tensor_names(self, parameter: Parameter) -> tuple[str, ...]:
        """The checkpoint's names for a parameter: one for each part, or one for all."""
        return tuple(f"{name.format(layer=parameter.layer)}.{parameter.kind}" for name in self.names[parameter.module])
