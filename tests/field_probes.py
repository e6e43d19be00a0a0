"""For each field of each route, a value that must show in the reply, and what has to stand beside it.

Decoding fields have theirs in field_cells.py, since the matrix tries them with every strategy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from decoding_matrix import END
from field_cells import STRUCTURED, flat_cell
from server_api import MODEL

from penstock_decoding.flat_fields import FLAT_FIELDS


@dataclass(frozen=True)
class Probe:
    """`value`: what is asked. `beside`: fields of both requests. `instead`: what the other one has of the field.

    `along`: what only goes with the value. `shows_in_engine`: the reply cannot show it, what the engine is asked does.
    """

    value: Any
    beside: Mapping[str, Any] = field(default_factory=dict)
    instead: Any = None
    along: Mapping[str, Any] = field(default_factory=dict)
    shows_in_engine: bool = False


_HELLO = [{"role": "user", "content": "Hello"}]
_SAMPLED: dict[str, Any] = {"model": MODEL, "seed": 5}
# A request of each route, which asks for as little as it can.
BASES: dict[str, dict[str, Any]] = {
    "/v1/completions": {**_SAMPLED, "prompt": "IJKIJK", "max_tokens": 12},
    "/v1/chat/completions": {**_SAMPLED, "messages": _HELLO, "max_completion_tokens": 12},
    "/v1/responses": {**_SAMPLED, "input": "Hello", "max_output_tokens": 12},
    "/v1/responses/input_tokens": {**_SAMPLED, "input": "Hello", "max_output_tokens": 12},
    "/v1/messages": {**_SAMPLED, "messages": _HELLO, "max_tokens": 12},
    "/v1/messages/count_tokens": {"model": MODEL, "messages": _HELLO},
    "/v1/embeddings": {"model": MODEL, "input": "Hello water"},
    "/v1/score": {"model": MODEL, "input": "Hello water"},
    "/tokenize": {"prompt": "Hello"},
    "/detokenize": {"tokens": [40, 41, END]},
    "/apply_template": {"messages": _HELLO},
}
# Route that only counts -> the one whose requests it counts: it says the same of each.
COUNTING = {"/v1/responses/input_tokens": "/v1/responses", "/v1/messages/count_tokens": "/v1/messages"}

_BEAMS = {"num_beams": 4}
_SEARCHING: dict[str, Probe] = {
    "num_beams": Probe(3),
    "use_beam_search": Probe(True, {"best_of": 3}),
    "best_of": Probe(4, {"seed": 6}),
    "num_beam_groups": Probe(2, {**_BEAMS, "diversity_penalty": 3.0}, instead=4),
    "diversity_penalty": Probe(3.0, {**_BEAMS, "num_beam_groups": 2, "n": 4}),
    "length_penalty": Probe(4.0, {**_BEAMS, "logit_bias": {str(END): 6.5}}),
    "early_stopping": Probe(True, {**_BEAMS, "length_penalty": 4.0, "logit_bias": {str(END): 7.5}}),
    "n": Probe(2),
    "seed": Probe(6),
    "chain_trace": Probe(True),
    "decoding": Probe({"strategy": "sample", "chain": [{"top_k": 2}]}, {"logit_bias": None}),
    "temperature": Probe(0.1),
    "dry_base": Probe(9.0, {"dry_multiplier": 0.5, "dry_allowed_length": 1, "logit_bias": {"40": 4, "41": 4}}),
    "min_tokens": Probe(4, {"logit_bias": {str(END): 12}}),
    "mirostat": Probe(2, along={"mirostat_tau": 0.2}),
    "mirostat_tau": Probe(0.2, {"mirostat": 2}),
    "mirostat_eta": Probe(1.0, {"mirostat": 2, "mirostat_tau": 2.0}),
    "presence_penalty": Probe(2.0),
    "frequency_penalty": Probe(2.0),
}
_THINKING = {"chat_template_kwargs": {"enable_thinking": True}}
_NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
_FUNCTION = {"name": "weather", "description": "tells it", "parameters": _NOTHING}
# Calls, one after the other as long as that may go on.
_CALLING = {"tool_choice": "required", "logit_bias": {str(END): -4}}
_TOOLS = [{"type": "function", "function": _FUNCTION}]
_SAID = [*_HELLO, {"role": "assistant", "content": "IJ"}]
_STOP = ["I", "J", "K", "L"]
_ENDING = {"logit_bias": {str(END): 12}}

_GENERATION: dict[str, Probe] = {
    "model": Probe("alias", instead=MODEL),
    "max_tokens": Probe(5, {"max_completion_tokens": None}, instead=12),
    "max_completion_tokens": Probe(5, instead=12),
    "stop": Probe(_STOP),
    "stop_token_ids": Probe([40, 41, 42, 43]),
    "ignore_eos": Probe(True, _ENDING),
    "stream": Probe(True),
    "stream_options": Probe({"include_usage": True}, {"stream": True}),
    "priority": Probe(3, shows_in_engine=True),
    "cache_salt": Probe("mine", shows_in_engine=True),
    "processed_logprobs": Probe(2),
    "prompt_logprobs": Probe(1),
    "truncate_prompt_tokens": Probe(3),
    "truncation_side": Probe("right", {"truncate_prompt_tokens": 3}),
    "include_stop_str_in_output": Probe(True, {"stop": _STOP}),
    "skip_special_tokens": Probe(False, {**_ENDING, "ignore_eos": True}),
    "return_token_ids": Probe(True),
    "return_tokens_as_token_ids": Probe(True, {"processed_logprobs": 1}),
    "guided_whitespace_pattern": Probe("[IJ]", {"guided_json": {"type": "array", "items": {"const": "M"}}}),
    "add_special_tokens": Probe(False),
    # completions
    "prompt": Probe("JKL", instead="IJKIJK"),
    "suffix": Probe("KL"),
    "logprobs": Probe(2),
    "echo": Probe(True),
    # chat
    "messages": Probe([{"role": "user", "content": "Bye"}], instead=_HELLO),
    "top_logprobs": Probe(2, {"logprobs": True}),
    "add_generation_prompt": Probe(False),
    "continue_final_message": Probe(True, {"messages": _SAID}),
    "chat_template_kwargs": Probe({"enable_thinking": True}),
    "tools": Probe(_TOOLS),
    "tool_choice": Probe("required", {"tools": _TOOLS}),
    "parallel_tool_calls": Probe(False, {**_CALLING, "tools": _TOOLS, "max_completion_tokens": 100}),
    "include_reasoning": Probe(False, _THINKING),
    "reasoning_effort": Probe("high"),
}
# These have one answer, that of the first group, which has no others to differ from.
_ONE_ANSWER = {"diversity_penalty": Probe(3.0, {**_BEAMS, "num_beam_groups": 2}, shows_in_engine=True)}
_OWN: dict[str, dict[str, Probe]] = {
    "/v1/chat/completions": {"logprobs": Probe(True), "add_special_tokens": Probe(True)},
    "/v1/responses": {
        **_ONE_ANSWER,
        "input": Probe("Bye", instead="Hello"),
        "instructions": Probe("Be brief."),
        "max_output_tokens": Probe(5, instead=12),
        "top_logprobs": Probe(2, {"include": ["message.output_text.logprobs"]}),
        "include": Probe(["message.output_text.logprobs"]),
        "text": Probe({"format": {"type": "json_object"}}),
        "tools": Probe([{"type": "function", **_FUNCTION}]),
        "tool_choice": Probe("required", {"tools": [{"type": "function", **_FUNCTION}]}),
        "parallel_tool_calls": Probe(
            False,
            {**_CALLING, "tools": [{"type": "function", **_FUNCTION}], "max_output_tokens": 100},
        ),
        "reasoning": Probe({"effort": "high"}),
        "previous_response_id": Probe("resp_~"),
        "truncation": Probe("auto"),
        "store": Probe(True),
        "stream_options": Probe({"include_obfuscation": False}, {"stream": True}),
        "metadata": Probe({"a": "b"}),
        **dict.fromkeys(("user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"), Probe("x")),
    },
    "/v1/messages": {
        **_ONE_ANSWER,
        "max_tokens": Probe(5, instead=12),
        "stop_sequences": Probe(_STOP),
        "system": Probe("Be brief."),
        "tools": Probe([{"name": "weather", "input_schema": _NOTHING}]),
        "tool_choice": Probe({"type": "any"}, {"tools": [{"name": "weather", "input_schema": _NOTHING}]}),
        "thinking": Probe({"type": "adaptive"}),
        "output_config": Probe({"effort": "high"}),
        "output_format": Probe({"type": "json_schema", "schema": {"const": "M"}}),
    },
    "/v1/embeddings": {
        "input": Probe("Bye", instead="Hello water"),
        "encoding_format": Probe("base64"),
        "dimensions": Probe(3),
        "pooling": Probe("last"),
        "normalize": Probe(False),
        "use_activation": Probe(False),
        "truncate_prompt_tokens": Probe(1),
        "truncation_side": Probe("right", {"truncate_prompt_tokens": 1}),
    },
    "/v1/score": {
        "input": Probe("Bye", instead="Hello water"),
        "context": Probe("I say: "),
        "labels": Probe([" yes", " no"]),
        "logprobs": Probe(2),
    },
    "/tokenize": {
        "prompt": Probe("Bye", instead="Hello"),
        "messages": Probe(_SAID, {"prompt": None}, instead=_HELLO),
        "add_generation_prompt": Probe(False, {"prompt": None, "messages": _HELLO}),
        "continue_final_message": Probe(True, {"prompt": None, "messages": _SAID}),
        "chat_template_kwargs": Probe({"enable_thinking": True}, {"prompt": None, "messages": _HELLO}),
        "tools": Probe(_TOOLS, {"prompt": None, "messages": _HELLO}),
        "return_token_strs": Probe(True),
    },
    "/detokenize": {"tokens": Probe([42], instead=[40, 41, END]), "skip_special_tokens": Probe(True)},
}
# What no value can show here, and why.
WITHOUT_SIGN = {
    ("/v1/responses", "stream_options"): "nothing can be asked for in it",
    ("/v1/responses", "previous_response_id"): "needs a response that was stored: tests/server/test_responses.py",
    **{
        (path, "model"): "the reply does not tell it; another one is a 404"
        for path in ("/tokenize", "/detokenize", "/apply_template")
    },
}


def probe(path: str, name: str) -> Probe | None:
    """The probe of a field; None if there is none."""
    path = COUNTING.get(path, path)
    if name in _OWN.get(path, {}):
        return _OWN[path][name]
    if name in _SEARCHING:
        return _SEARCHING[name]
    if name in _GENERATION:
        return _GENERATION[name]
    if name in STRUCTURED:
        return Probe(STRUCTURED[name][0][name])
    if name in FLAT_FIELDS:
        given, without, _ = flat_cell(name)
        along = {key: value for key, value in given.items() if key != name and key not in without}
        # An answer that repeats itself, for what goes against that.
        beside = {"logit_bias": {"40": 4, "41": 4}} if name.startswith("dry_") else {}
        return Probe(given[name], {**without, **beside}, along=along)
    return None


# Answers of as little as there can be, where their text does not matter.
SHORT: dict[str, dict[str, Any]] = {
    "/v1/completions": {"max_tokens": 2, **_ENDING},
    "/v1/chat/completions": {"max_completion_tokens": 2, **_ENDING},
    "/v1/responses": {"max_output_tokens": 2, **_ENDING},
    "/v1/messages": {"max_tokens": 2, **_ENDING},
}


def request(path: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """A body of the route: its base, and these fields; None takes one away."""
    return {name: value for name, value in {**BASES[path], **more}.items() if value is not None}
