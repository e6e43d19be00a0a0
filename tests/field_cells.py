"""Values of the decoding fields with which they show, over the script of the matrix (letters I to T)."""

from typing import Any

from penstock_decoding.flat_fields import FLAT_FIELDS, SWITCHES

# Processor -> parameters with which it changes what every strategy chooses from.
BUSY: dict[str, dict[str, Any]] = {
    "grammar": {"regex": "[IJMN]{4,6}"},
    "allowed_sequences": {"sequences": [[44, 40, 41], [44, 40, 43, 45], [46, 44], [41, 44, 44]]},
    "bad_words": {"words": [[40], [44, 41], [45, 46]]},
    "allowed_tokens": {"tokens": [40, 41, 43, 44, 47]},
    "no_repeat_ngram": {"size": 1},
    "min_tokens": {"count": 4},
    "force_end": {"after": 3},
    "logit_bias": {"bias": {"44": 3.0, "45": -100, "46": 2.5}},
    "penalties": {"repetition": 1.4, "presence": 0.8, "frequency": 0.6},
    "dry": {"multiplier": 3.0, "base": 1.5, "allowed_length": 1, "range": 4},
    "temperature": {"value": 0.6},
    "dynamic_temperature": {"value": 1.0, "spread": 0.6, "exponent": 2.0},
    "adaptive_temperature": {"target": 1.5},
    "top_n_sigma": {"deviations": 0.2},
    "top_h": {"share": 0.4},
    "top_k": {"count": 3},
    "top_p": {"mass": 0.5},
    "min_p": {"share": 0.3},
    "typical": {"mass": 0.4},
    "epsilon": {"cutoff": 0.08},
    "eta": {"cutoff": 0.3},
    "xtc": {"probability": 1.0, "threshold": 0.07},
    "mirostat": {"version": 2, "target": 1.5, "rate": 1.0},
}
# Flat field -> parameters of its processor with which it shows, where the busy ones do not have it or hide it.
SHOWING: dict[str, dict[str, Any]] = {
    "allowed_texts": {"texts": ["MI", "MJK", "OM"]},
    "bad_words": {"texts": ["I", "MJ"]},
    "dry_sequence_breakers": {"multiplier": 3.0, "breaker_texts": ["I", "J"]},
    "dry_base": {"multiplier": 3.0, "base": 1.1},
    "dry_allowed_length": {"multiplier": 3.0, "allowed_length": 4},
    "dry_penalty_last_n": {"multiplier": 3.0, "range": 2},
    "mirostat_eta": {"version": 2, "rate": 1.0},
}
# (processor, parameter) -> the flat field that fills it.
NAMES = {(processor, parameter): name for name, (processor, parameter, _) in FLAT_FIELDS.items()}
NAMES["dynamic_temperature", "value"] = "temperature"
# Field -> what is asked, and a regex that whatever answer ends by itself matches.
STRUCTURED: dict[str, tuple[dict[str, Any], str]] = {
    "response_format": ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"const": "M"}}}}, '"M"'),
    "structured_outputs": ({"structured_outputs": {"regex": "[IM]{2}M"}}, "[IM]{2}M"),
    "guided_json": ({"guided_json": {"enum": ["MI", "IM"]}}, '"(MI|IM)"'),
    "guided_regex": ({"guided_regex": "M[I-T]{2,3}"}, "M[I-T]{2,3}"),
    "guided_choice": ({"guided_choice": ["MIN", "JM", "M"]}, "MIN|JM|M"),
    "guided_grammar": ({"guided_grammar": 'start: "(" start ")" | "M"'}, r"\(*M\)*"),
    "guided_whitespace_pattern": (
        {
            "guided_json": {"type": "array", "items": {"const": "M"}, "minItems": 2, "maxItems": 2},
            "guided_whitespace_pattern": "[IJ]",
        },
        r'\[[IJ]"M"[IJ],[IJ]"M"[IJ]\]',
    ),
    "json_schema": ({"json_schema": {"const": "IM"}}, '"IM"'),
    "grammar": ({"grammar": 'root ::= ("I" | "J"){2,4} "M"'}, "[IJ]{2,4}M"),
}


def flat_cell(field: str) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """For a flat field: the fields of a request, those of one that is to differ, and the chain that says the first."""
    processor, _, _ = FLAT_FIELDS[field]
    params = SHOWING.get(field, BUSY[processor])
    given = {NAMES[processor, own]: value for own, value in params.items() if (processor, own) in NAMES}
    if field in SWITCHES:  # beside the one that it belongs to, and no other
        given = {name: value for name, value in given.items() if name in (field, SWITCHES[field])}
    without = {name: value for name, value in given.items() if field not in (name, SWITCHES.get(name))}
    return given, without, [{processor: {FLAT_FIELDS[name][1]: value for name, value in given.items()}}]
