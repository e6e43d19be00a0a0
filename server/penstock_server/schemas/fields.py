"""`GenerationFields`: the fields that completions and chat requests share. Shapes and types; what the decoding fields
mean, and their ranges, is `penstock_decoding.params`."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr

from penstock_decoding.flat_strategy import STRATEGY_FIELDS
from penstock_server.errors import BadRequest
from penstock_server.schemas.structured import STRUCTURED_FIELDS, Structured, read_structured

MAX_STOP_STRINGS = 16
MAX_STOP_CHARACTERS = 1024
MAX_TOP_LOGPROBS = 20

# The fields handed to `read_decoding` as they stand.
DECODING_FIELDS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "dynatemp_range",
    "dynatemp_exponent",
    "top_n_sigma",
    "top_h",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
    "xtc_probability",
    "xtc_threshold",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "dry_multiplier",
    "dry_base",
    "dry_allowed_length",
    "dry_penalty_last_n",
    "dry_sequence_breakers",
    "logit_bias",
    "min_tokens",
    "bad_words",
    "bad_words_ids",
    "allowed_token_ids",
    "no_repeat_ngram_size",
    "allowed_sequences",
    "allowed_texts",
    *STRATEGY_FIELDS,
    "n",
    "seed",
    "chain_trace",
    "decoding",
)


class Strict(BaseModel):
    """No unknown fields, no conversions between types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Body(Strict):
    """A body that may have been read leniently."""

    # What a lenient server has left out of the request.
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was passed over, fit for the caller."""
        return self._warnings

    def warned(self, warnings: tuple[str, ...]) -> Self:
        """The same body, with what was passed over when it was read."""
        self._warnings = warnings
        return self


class StreamOptions(Strict):
    """OpenAI's `stream_options`. Padding against traffic analysis (`include_obfuscation`) is not done.

    `continuous_usage_stats`: vLLM's; the usage so far in each chunk. `decoding_events`: events of our own that tell how
    the answers are found.
    """

    include_usage: bool = False
    include_obfuscation: bool = False
    continuous_usage_stats: bool = False
    decoding_events: bool = False


def _read_stop(value: object) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list):
        raise BadRequest("must be a string or a list of strings", "stop", "invalid_type")
    if len(stops) > MAX_STOP_STRINGS:
        raise BadRequest(f"at most {MAX_STOP_STRINGS} stop strings are allowed", "stop", "invalid_value")
    for i, stop in enumerate(stops):
        param = "stop" if isinstance(value, str) else f"stop.{i}"
        if not isinstance(stop, str):
            raise BadRequest("must be a string", param, "invalid_type")
        if not 0 < len(stop) <= MAX_STOP_CHARACTERS:
            raise BadRequest(f"a stop string has 1 to {MAX_STOP_CHARACTERS} characters", param, "invalid_value")
    return tuple(dict.fromkeys(stops))


class GenerationFields(Body):
    """Fields of both APIs, null ones left out. Decoding fields are typed where they are read."""

    model: str
    max_tokens: int | None = Field(default=None, ge=0)
    stop: Annotated[tuple[str, ...], BeforeValidator(_read_stop)] = ()
    stop_token_ids: list[Annotated[int, Field(ge=0)]] = Field(default=[], max_length=1024)
    ignore_eos: bool = False
    stream: bool = False
    stream_options: StreamOptions | None = None
    priority: int = Field(default=0, ge=-(2**31), le=2**31 - 1)
    cache_salt: str = Field(default="", max_length=256)
    processed_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    prompt_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    truncate_prompt_tokens: int | None = Field(default=None, ge=-1)
    truncation_side: Literal["left", "right"] = "left"
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    return_token_ids: bool = False
    return_tokens_as_token_ids: bool = False

    response_format: Any = None
    structured_outputs: Any = None
    guided_json: Any = None
    guided_regex: Any = None
    guided_choice: Any = None
    guided_grammar: Any = None
    guided_whitespace_pattern: Any = None
    json_schema: Any = None
    grammar: Any = None
    temperature: Any = None
    top_p: Any = None
    top_k: Any = None
    min_p: Any = None
    dynatemp_range: Any = None
    dynatemp_exponent: Any = None
    top_n_sigma: Any = None
    top_h: Any = None
    typical_p: Any = None
    epsilon_cutoff: Any = None
    eta_cutoff: Any = None
    mirostat: Any = None
    mirostat_tau: Any = None
    mirostat_eta: Any = None
    xtc_probability: Any = None
    xtc_threshold: Any = None
    repetition_penalty: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    dry_multiplier: Any = None
    dry_base: Any = None
    dry_allowed_length: Any = None
    dry_penalty_last_n: Any = None
    dry_sequence_breakers: Any = None
    logit_bias: Any = None
    min_tokens: Any = None
    bad_words: Any = None
    bad_words_ids: Any = None
    allowed_token_ids: Any = None
    no_repeat_ngram_size: Any = None
    allowed_sequences: Any = None
    allowed_texts: Any = None
    num_beams: Any = None
    use_beam_search: Any = None
    best_of: Any = None
    num_beam_groups: Any = None
    diversity_penalty: Any = None
    length_penalty: Any = None
    early_stopping: Any = None
    n: Any = None
    seed: Any = None
    chain_trace: Any = None
    decoding: Any = None

    def structured(self) -> Structured | None:
        """What the answer has to look like, whatever field says so."""
        return read_structured({name: getattr(self, name) for name in STRUCTURED_FIELDS})

    def decoding_fields(self) -> dict[str, object]:
        """What `read_decoding` takes, but for `num_logprobs`."""
        fields = {name: getattr(self, name) for name in DECODING_FIELDS}
        structured = self.structured()
        if structured is not None:
            fields[structured.field] = structured.value
        return fields | {"num_processed_logprobs": self.processed_logprobs}
