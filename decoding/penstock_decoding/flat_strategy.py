"""The flat fields that name a strategy or fill its parameters, in the words of transformers, vLLM and OpenAI.

`num_beams` above 1 (transformers) and `use_beam_search` (vLLM) name beam search. Its width is `num_beams`; with
`use_beam_search` it is `best_of`, or else `n`. `best_of` without beam search (OpenAI) is a parameter of sampling. The
other fields fill parameters of the strategy that is named, here or in `decoding`, and never name one themselves.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from penstock_decoding.errors import ParameterError
from penstock_decoding.read import read_params

# Strategies that leave nothing to chance: to them temperature 0 means no temperature.
DETERMINISTIC = frozenset(("greedy", "beam", "constrained_beam"))


@dataclass(frozen=True, slots=True)
class StrategyFields:
    """The fields as they stand in a request; their defaults ask for nothing."""

    num_beams: int = dataclasses.field(default=1, metadata={"minimum": 1})
    use_beam_search: bool = False
    best_of: int | None = dataclasses.field(default=None, metadata={"minimum": 1})
    num_beam_groups: int = dataclasses.field(default=1, metadata={"minimum": 1})
    diversity_penalty: float = 0.0
    length_penalty: float = 1.0
    early_stopping: Literal["never"] | bool = False

    def __post_init__(self) -> None:
        for name in ("num_beams", "num_beam_groups"):
            if getattr(self, name) < 1:
                raise ParameterError(name, "must be at least 1")
        if self.best_of is not None and self.best_of < 1:
            raise ParameterError("best_of", "must be at least 1")


STRATEGY_FIELDS = tuple(field.name for field in dataclasses.fields(StrategyFields))

# Flat field -> the parameter it fills.
PARAMETERS = {
    "num_beam_groups": "groups",
    "diversity_penalty": "diversity_penalty",
    "length_penalty": "length_penalty",
    "early_stopping": "early_stopping",
}
_IDLE = StrategyFields()


@dataclass(frozen=True, slots=True)
class FlatStrategy:
    """What flat fields say about the strategy: its name, if they do, and (flat field, value) by parameter."""

    name: str | None
    parameters: dict[str, tuple[str, object]]


def read_flat_strategy(flat: Mapping[str, object], n: object, decoding: Mapping[str, object]) -> FlatStrategy:
    """What the `STRATEGY_FIELDS` in `flat` and the flat field `n` ask for, beside the object `decoding`.

    Raises:
        ParameterError: a field is of the wrong type, or contradicts another one.
    """
    try:
        asked = read_params(StrategyFields, flat, "")
    except ParameterError as error:
        raise ParameterError(error.param.removeprefix("."), error.message) from None
    parameters: dict[str, tuple[str, object]] = {} if n is None else {"n": ("n", n)}
    for field, parameter in PARAMETERS.items():
        if getattr(asked, field) != getattr(_IDLE, field):
            parameters[parameter] = (field, flat[field])
    num_answers = decoding.get("n", 1) if n is None else n
    if asked.num_beams == 1 and not asked.use_beam_search:
        if asked.best_of not in (None, num_answers):
            parameters["best_of"] = ("best_of", asked.best_of)
        return FlatStrategy(None, parameters)
    naming = "use_beam_search" if asked.use_beam_search else "num_beams"
    if "strategy" in decoding:
        raise ParameterError(naming, f"{naming} and decoding.strategy both name the strategy; give one")
    if naming == "num_beams":
        if asked.best_of not in (None, num_answers):
            raise ParameterError("best_of", "best_of and num_beams both say how many answers to search; give one")
        parameters["width"] = ("num_beams", asked.num_beams)
    elif "num_beams" in flat:
        raise ParameterError(naming, "use_beam_search and num_beams both say how to search; give one")
    elif asked.best_of is not None:
        parameters["width"] = ("best_of", asked.best_of)
    elif "width" not in decoding:
        parameters["width"] = ("n", num_answers)
    return FlatStrategy("beam", parameters)
