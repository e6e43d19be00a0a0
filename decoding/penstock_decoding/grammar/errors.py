"""The errors of grammars."""

from penstock_decoding.errors import DecodingError, DecodingFault


class GrammarError(DecodingError):
    """A grammar cannot be used: it is malformed, too large, or asks for something unknown; the message says which."""


class GrammarStuck(DecodingFault):
    """A grammar that was taken cannot go on from here: no token fits, or a limit of the parser is reached."""


class StatesFull(GrammarStuck):
    """All copies of a matcher together have found as many states of its lexer as they may; a new matcher has none."""
