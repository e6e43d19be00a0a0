"""A grammar as the parser reads it, from what a request says.

Every kind becomes one text in llguidance's dialect of Lark. Its option `no_forcing` keeps the mask what it says: all
tokens whose bytes can stand here. Without it, text that must follow is encoded anew and only the first token of that is
allowed, which needs the tokenizer in the engine and bends the model's distribution.
"""

import json
import math
import re
from collections.abc import Sequence

from penstock_decoding.grammar.errors import GrammarError
from penstock_decoding.grammar.params import GrammarParams

_HEADER = '%llguidance {"no_forcing": true}\n'

# Between the tokens of JSON: a space, or a line break and an indentation of up to eight levels. A model that may write
# any white space, and is led astray, writes it for ever.
WHITESPACE = r" |\n {0,32}|\n\t{0,8}"

# Converted in Python, which takes a second for a hundred thousand characters.
MAX_GBNF_CHARACTERS = 16 * 1024
_GBNF_RULE = re.compile(r"^[ \t]*[A-Za-z][\w-]*[ \t]*::=", re.MULTILINE)

# The parser's automaton for a multiple of n has n states and is built without regard for its limits: half a kilobyte
# and ten microseconds each.
MAX_DIVISOR = 10_000
_DIVISOR = re.compile(r'"multipleOf"\s*:\s*(\d+(?:\.\d+)?(?:[eE][+-]?\d{1,4})?)')
_ESCAPED = re.compile(r"\\u00([0-7][0-9a-fA-F])")


def written(params: GrammarParams) -> str:
    """The grammar as the parser reads it.

    Raises:
        GrammarError: it is not a grammar, or more than the parser can be given.
    """
    grammar = _written(params)
    _check_divisors(grammar)
    return _HEADER + grammar


def _written(params: GrammarParams) -> str:
    if params.regex is not None:
        return _regex(params.regex)
    if params.choice is not None:
        return _choice(params.choice)
    if params.lark is not None:
        return _lark(params.lark)
    schema = {"type": "object"} if params.json_schema is None else json.loads(params.json_schema)
    return f"start: {json_rule(schema)}\n"


def json_rule(value: object) -> str:
    """JSON that follows a schema, as the right side of a rule of Lark. Its references are its own."""
    if value is True:
        value = {}
    if isinstance(value, dict):
        own = value.get("x-guidance", {})
        if isinstance(own, dict) and not own.keys() & {"whitespace_pattern", "whitespace_flexible"}:
            value = value | {"x-guidance": own | {"whitespace_pattern": WHITESPACE}}
    return f"%json {json.dumps(value)}"


def _regex(regex: str) -> str:
    from llguidance import regex_to_lark

    # In Lark // begins a comment.
    return f"start: /{regex_to_lark(regex)}/\n" if regex else 'start: ""\n'


def _choice(texts: Sequence[str]) -> str:
    return "start: " + "\n     | ".join(json.dumps(text, ensure_ascii=False) for text in texts) + "\n"


def _lark(grammar: str) -> str:
    if not _GBNF_RULE.search(grammar):
        return grammar
    from llguidance.gbnf_to_lark import gbnf_to_lark

    if len(grammar) > MAX_GBNF_CHARACTERS:
        raise GrammarError(
            f"a grammar in GBNF must have at most {MAX_GBNF_CHARACTERS} characters; Lark's can have more"
        )
    try:
        return gbnf_to_lark(grammar)
    except RecursionError:
        raise GrammarError("is nested too deeply") from None
    except Exception as error:  # it raises bare Exception
        raise GrammarError(f"cannot be read as GBNF: {error}") from None


def _check_divisors(grammar: str) -> None:
    plain = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), grammar)
    multiple = 1  # of all: several may meet in one number
    for found in _DIVISOR.findall(plain):
        digits = found.lower().partition("e")[0].replace(".", "").strip("0")
        multiple = math.lcm(multiple, int(digits[:9] or "1"))
        if len(digits) > 9 or multiple > MAX_DIVISOR:
            raise GrammarError(f"multipleOf is supported up to {MAX_DIVISOR}, but for zeros at its end")
