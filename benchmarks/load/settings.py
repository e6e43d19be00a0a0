"""`Settings`: what was asked for. Read from the command line by `flags.py`, and by nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from load.loads import Load
from load.prompts import Lengths, TracedRequest

PromptKind = Literal["random", "shared-prefix", "file", "trace"]


@dataclass(frozen=True, slots=True)
class ServerChoice:
    """The server to measure: one that runs at `base`, or, without one, `model` served for this benchmark."""

    base: str | None
    model: str | None
    api_key: str | None = field(repr=False)
    endpoint: Literal["completions", "chat"]
    wait: float
    serve: str
    serve_flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PromptChoice:
    """Which prompts are sent. `path` for prompts of a file; `trace` where a trace says."""

    kind: PromptKind
    form: Literal["auto", "ids", "text"]
    lengths: Lengths
    prefix_len: int
    num_prefixes: int
    path: Path | None
    trace: tuple[TracedRequest, ...]
    vocab_size: int
    seed: int


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a run of the benchmark needs. Times in seconds; goodput limits in milliseconds."""

    server: ServerChoice
    prompts: PromptChoice
    loads: tuple[Load, ...]
    num_requests: int | None
    duration: float | None
    warmup: int
    timeout: float
    ignore_eos: bool
    fields: Mapping[str, Any]
    limits: Mapping[str, float]
    num_processes: int | None
    name: str
    output: Path | None
    saves_result: bool
    saves_requests: bool
    plots: Path | None
