"""The schemas of what shapes the decoding: the flat fields, and the object `decoding` with all that can be named there.

All of it is made of the tables that requests are read with, plug-ins included.
"""

import dataclasses
import typing
from typing import Any

from penstock_decoding.catalogue import Catalogue
from penstock_decoding.flat_fields import FLAT_FIELDS
from penstock_decoding.flat_strategy import PARAMETERS, STRATEGY_FIELDS, StrategyFields
from penstock_decoding.params import MAX_SEED
from penstock_decoding.params_schema import params_schema
from penstock_server.openapi.shapes import BOOLEAN, Schema, array, closed, ref

# Strategies whose parameters go without the strategy's name: flat fields name it, or nothing does.
_UNNAMED = ("greedy", "sample", "beam")


def flat_field(name: str, catalogue: Catalogue) -> Schema:
    """The schema of one of the fields that `read_decoding` takes, but for null. `n` is bounded by the server."""
    if name == "n":
        return {"type": "integer", "minimum": 1, "default": 1}
    if name == "seed":
        return {"type": "integer", "minimum": -MAX_SEED - 1, "maximum": MAX_SEED}
    if name == "chain_trace":
        return {**BOOLEAN, "default": False}
    if name == "decoding":
        return ref("Decoding")
    if name in STRATEGY_FIELDS:
        return _strategy_field(name, catalogue)
    processor, parameter, idle = FLAT_FIELDS[name]
    schema = dict(params_schema(catalogue.processors[processor].Params)["properties"][parameter])
    schema.pop("default", None)
    if name == "temperature":  # 0 is the strategy greedy
        schema["minimum"] = schema.pop("exclusiveMinimum")
    if idle:
        schema["default"] = list(idle[0]) if isinstance(idle[0], tuple) else idle[0]
    return schema


def schemas(catalogue: Catalogue, max_choices: int) -> dict[str, Schema]:
    """The components: `Decoding`, a schema for each strategy and one for each processor."""
    named: dict[str, Schema] = {}
    for name, strategy in catalogue.strategies.items():
        own = _bounded(params_schema(strategy.Params), max_choices)
        properties = {"strategy": {"const": name}, "chain": ref("Chain"), **own["properties"]}
        named[f"Strategy_{name}"] = closed(properties, ["strategy", *own["required"]], own["description"])
    processors = {f"Processor_{name}": _processor(name, each.Params) for name, each in catalogue.processors.items()}
    unnamed: dict[str, Schema] = {"chain": ref("Chain")}
    for name in _UNNAMED:
        unnamed |= _bounded(params_schema(catalogue.strategies[name].Params), max_choices)["properties"]
    for parameter in PARAMETERS.values():
        unnamed[parameter].pop("default", None)
    told = "Without a name: the strategy `sample`, `greedy` at temperature 0, or `beam` where flat fields name it."
    chain = array(
        {"oneOf": [ref(name) for name in processors]},
        description="Processors, in the order in which they shape the distribution; each at most once.",
    )
    decoding = {
        "description": "The strategy, its parameters, and the chain of processors.",
        "oneOf": [*(ref(name) for name in named), ref("Strategy_unnamed")],
    }
    return {"Decoding": decoding, **named, "Strategy_unnamed": closed(unnamed, [], told), "Chain": chain, **processors}


def _strategy_field(name: str, catalogue: Catalogue) -> Schema:
    own: Schema = params_schema(StrategyFields)["properties"][name]
    if name not in PARAMETERS:
        return own
    # It fills a parameter, most often of beam search, and has its range.
    parameter = params_schema(catalogue.strategies["beam"].Params)["properties"][PARAMETERS[name]]
    return {**parameter, **own}


def _bounded(schema: Schema, max_choices: int) -> Schema:
    """The schema of a strategy's parameters on a server that gives at most so many answers."""
    properties = dict(schema["properties"])
    for name in ("n", "best_of"):
        if name in properties:
            most = min(properties[name].get("maximum", max_choices), max_choices)
            properties[name] = {**properties[name], "maximum": most}
    return {**schema, "properties": properties}


def _processor(name: str, params: type[Any]) -> Schema:
    schema = params_schema(params)
    if len(schema["required"]) == 1:
        (bare,) = schema["required"]
        value = schema["properties"][bare]
        has_object = typing.get_origin(typing.get_type_hints(params)[bare]) is dict
        if not has_object or len(dataclasses.fields(params)) == 1:
            schema = {"description": schema["description"], "anyOf": [schema, value]}
    elif not schema["properties"]:
        schema = {key: value for key, value in schema.items() if key != "required"}
    return closed({name: schema}, description=f"The processor `{name}`.")
