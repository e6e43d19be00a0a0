"""`ServerConfig`: what was asked of the HTTP side. Each field is a flag, a key of the file and a PENSTOCK_ variable."""

from dataclasses import dataclass, field
from typing import Literal

LogLevel = Literal["debug", "info", "warning", "error"]


class SettingsError(Exception):
    """A setting cannot be followed; the message names it."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What was asked of the HTTP side. Sizes in bytes, times in seconds. Each field's `help` is its line in --help."""

    host: str = field(default="127.0.0.1", metadata={"help": "address to listen on"})
    port: int = field(default=8000, metadata={"help": "port to listen on; 0 takes a free one"})
    api_workers: int = field(default=1, metadata={"help": "processes that answer HTTP, in front of the one engine"})
    served_model_name: tuple[str, ...] = field(
        default=(), metadata={"help": "name that requests give, repeatable; default: MODEL, of a folder its last part"}
    )
    api_key: tuple[str, ...] = field(
        default=(), metadata={"help": "key that every route but /health and /ready asks for, repeatable; default: none"}
    )
    api_key_file: str | None = field(default=None, metadata={"help": "file with further keys, one a line"})
    allow_origin: tuple[str, ...] = field(
        default=(), metadata={"help": "origin whose web pages may ask, or *, repeatable; default: none (no CORS)"}
    )
    max_n: int = field(default=128, metadata={"help": "most answers to one prompt"})
    max_logprobs: int = field(default=20, metadata={"help": "most likeliest tokens told beside each token, up to 20"})
    max_request_bytes: int = field(
        default=16 * 2**20, metadata={"help": "largest body of a request, with a suffix like 4MiB", "is_size": True}
    )
    lenient: bool = field(
        default=False, metadata={"help": "accept unknown fields of requests, and list them in the reply's warnings"}
    )
    drain_timeout: float = field(default=30.0, metadata={"help": "seconds that open requests get after SIGTERM"})
    ping_interval: float = field(
        default=15.0, metadata={"help": "seconds between signs of life in a silent stream; 0: none"}
    )
    receive_timeout: float = field(
        default=60.0,
        metadata={"help": "seconds for a request's headers to come, and for each piece of its body; 0: any time"},
    )
    send_timeout: float = field(
        default=60.0, metadata={"help": "seconds a client may stop reading before its request is aborted; 0: any time"}
    )
    log_level: LogLevel = field(default="info", metadata={"help": "least severe messages that are logged"})
    log_requests: bool = field(default=False, metadata={"help": "log a line for every request"})
