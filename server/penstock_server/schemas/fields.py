"""`GenerationFields`: the fields that completions and chat requests share. Shapes and types; what the decoding fields
mean, and their ranges, is `penstock_decoding.params`."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from penstock_server.errors import BadRequest

MAX_STOP_STRINGS = 16
MAX_STOP_CHARACTERS = 1024
MAX_TOP_LOGPROBS = 20

# The fields handed to `read_decoding` as they stand.
DECODING_FIELDS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "min_tokens",
    "n",
    "seed",
    "decoding",
)


class Strict(BaseModel):
    """No unknown fields, no conversions between types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class StreamOptions(Strict):
    """OpenAI's `stream_options`. Padding against traffic analysis (`include_obfuscation`) is not done."""

    include_usage: bool = False
    include_obfuscation: bool = False


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


class GenerationFields(Strict):
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

    temperature: Any = None
    top_p: Any = None
    top_k: Any = None
    min_p: Any = None
    repetition_penalty: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    logit_bias: Any = None
    min_tokens: Any = None
    n: Any = None
    seed: Any = None
    decoding: Any = None

    def decoding_fields(self) -> dict[str, object]:
        """What `read_decoding` takes, but for `num_logprobs`."""
        return {name: getattr(self, name) for name in DECODING_FIELDS}
