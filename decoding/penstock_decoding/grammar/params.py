"""`GrammarParams`: the grammar that a request gives."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from penstock_decoding.errors import ParameterError
from penstock_decoding.read import JsonText

KINDS = ("json_schema", "json_object", "regex", "choice", "lark")
MAX_CHARACTERS = 256 * 1024
MAX_CHOICES = 4096


@dataclass(frozen=True, slots=True)
class GrammarParams:
    """Exactly one kind of grammar, of at most 262144 characters.

    `json_schema`: JSON that follows the schema; `json_object`: any JSON object; `regex`: text that the whole regex
    matches; `choice`: one of these texts, at most 4096; `lark`: a context-free grammar in Lark's notation or in
    llama.cpp's (GBNF). A schema can hold the parser's own options in `x-guidance`: `whitespace_pattern`, a regex for
    the white space between tokens; `whitespace_flexible` false for none at all; `lenient` to ignore what is unknown.
    """

    json_schema: JsonText | None = None
    json_object: bool = False
    regex: str | None = field(default=None, metadata={"maxLength": MAX_CHARACTERS})
    choice: tuple[str, ...] | None = field(default=None, metadata={"minItems": 1, "maxItems": MAX_CHOICES})
    lark: str | None = field(default=None, metadata={"maxLength": MAX_CHARACTERS})

    def __post_init__(self) -> None:
        given = [kind for kind in KINDS if getattr(self, kind) not in (None, False)]
        if not given:
            raise ParameterError(KINDS[0], f"a grammar needs one of {', '.join(KINDS)}")
        if len(given) > 1:
            raise ParameterError(given[1], f"{given[0]} and {given[1]} are both given; a grammar is one of them")
        if self.choice is not None and not 0 < len(self.choice) <= MAX_CHOICES:
            raise ParameterError("choice", f"must be a list of 1 to {MAX_CHOICES} strings")
        texts = (self.json_schema, self.regex, self.lark, *(self.choice or ()))
        if sum(len(text) for text in texts if text is not None) > MAX_CHARACTERS:
            raise ParameterError(self.kind, f"must have at most {MAX_CHARACTERS} characters")

    @property
    def kind(self) -> str:
        """Which of `KINDS` it is."""
        return next(kind for kind in KINDS if getattr(self, kind) not in (None, False))

    def check_stop(self, stop_token_ids: Sequence[int], min_tokens: int, max_tokens: int) -> None:
        """The grammar decides where its answer can end, and a stop token is how it ends.

        Raises:
            ParameterError: there is no stop token, or it may not come in time.
        """
        if not stop_token_ids:
            raise ParameterError(self.kind, "the answer ends by a stop token, and ignore_eos leaves none")
        if min_tokens > 0:
            raise ParameterError(self.kind, "decides where the answer can end, and so does min_tokens; give one")
