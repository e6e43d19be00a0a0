"""The command line of `benchmarks/serving.py`. What is wrong with it is said in one line that names the flag."""

import argparse
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import orjson

from load.errors import FlagError
from load.figures import LIMIT_NAMES
from load.files import read_trace
from load.loads import ClosedLoop, Load, OpenLoop, Traced
from load.prompts import Lengths
from load.settings import PromptChoice, PromptKind, ServerChoice, Settings
from load.target import read_base
from load.vocabulary import DEFAULT_VOCAB_SIZE

DEFAULT_CONCURRENCIES = (1, 4, 16)
DEFAULT_NUM_PROMPTS = 64
MAX_PROCESSES = 64

_DESCRIPTION = """\
Measure a server with OpenAI's API under load. Without --url the demo model is served and measured.
A list of loads, like --concurrency 1,4,16, is a sweep. docs/benchmarks.md explains the figures."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message.removeprefix('argument ')}\n")


def read_flags(arguments: Sequence[str] | None = None) -> Settings:
    """The settings that a command line asks for.

    Raises:
        FlagError: flags contradict each other, or a file is not as it should be.
        SystemExit: a flag is unknown or its value malformed; or for --help.
    """
    given = make_parser().parse_args(arguments)
    trace = read_trace(given.trace, given.endpoint == "chat") if given.trace is not None else ()
    loads = _loads(given)
    _check(given, loads)
    kind = _kind(given)
    ignore_eos = given.ignore_eos if given.ignore_eos is not None else kind != "file"
    fields = dict(given.set)
    if given.temperature is not None:
        fields.setdefault("temperature", given.temperature)
    return Settings(
        server=ServerChoice(
            base=None if given.url is None else read_base(given.url),
            model=given.model,
            api_key=given.api_key or os.environ.get("PENSTOCK_API_KEY") or os.environ.get("OPENAI_API_KEY"),
            endpoint=given.endpoint,
            wait=given.wait,
            serve=given.serve or "demo",
            serve_flags=tuple(given.serve_flags),
        ),
        prompts=PromptChoice(
            kind=kind,
            form=given.prompt_form,
            lengths=Lengths(given.input_len, given.output_len, given.range_ratio),
            prefix_len=given.prefix_len,
            num_prefixes=given.num_prefixes,
            path=given.prompt_file,
            trace=trace,
            vocab_size=given.vocab_size,
            seed=given.seed,
        ),
        loads=loads,
        num_requests=_num_requests(given, len(trace)),
        duration=given.duration,
        warmup=given.warmup,
        timeout=given.timeout,
        ignore_eos=ignore_eos,
        fields=fields,
        limits=dict(given.goodput or ()),
        num_processes=given.processes,
        name=given.name,
        output=given.output,
        saves_result=not given.no_result and given.output is None,
        saves_requests=given.save_requests,
        plots=given.plots,
    )


def make_parser() -> argparse.ArgumentParser:
    """The flags, with their help. `docs/benchmarks.md` has a row for each."""
    parser = _Parser("serving.py", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument_group("server").add_argument
    add("--url", help="root of a running server, with or without /v1")
    add("--serve", metavar="MODEL", help="without --url: serve this (demo, a folder, a shape of shapes.py)")
    add("--model", help="name in requests (default: the first of /v1/models)")
    add("--api-key", help="default: PENSTOCK_API_KEY, then OPENAI_API_KEY")
    add("--endpoint", choices=("completions", "chat"), default="completions")
    add("--wait", type=_amount, default=10.0, metavar="S", help="wait for the server to come up (default: 10)")
    add("serve_flags", nargs="*", metavar="-- FLAG", help="after --: more flags for penstock serve")
    add = parser.add_argument_group("load").add_argument
    add("--concurrency", type=_counts, metavar="N,..", help="closed loop: so many at once (default: 1,4,16)")
    add("--rate", type=_rates, metavar="R,..", help="open loop: arrivals per second; inf: all at once")
    add("--burstiness", type=_positive, metavar="B", help="with --rate: 1 Poisson, less bursts, inf even (default: 1)")
    add("--trace", type=Path, metavar="FILE", help="arrivals and lengths from a JSONL file")
    add("--speed", type=_speeds, metavar="X,..", help="with --trace: how many times as fast (default: 1)")
    add("--max-concurrency", type=_count, metavar="N", help="with --rate or --trace: at most so many at once")
    add(
        "--num-prompts",
        type=_count,
        metavar="N",
        help="requests of each load (default: 64 or more, or the trace)",
    )
    add("--duration", type=_finite, metavar="S", help="in place of a number: no request starts after S seconds")
    add("--warmup", type=_whole, default=4, metavar="N", help="requests before each load, not counted (default: 4)")
    add("--timeout", type=_finite, default=600.0, metavar="S", help="a request that takes longer failed (default: 600)")
    add = parser.add_argument_group("prompts").add_argument
    add("--prompts", choices=("random", "shared-prefix", "file"), help="default: random")
    add(
        "--input-len",
        type=_count,
        default=128,
        metavar="N",
        help="tokens of a prompt after its prefix (default: 128)",
    )
    add("--output-len", type=_count, default=64, metavar="N", help="tokens of an answer (default: 64)")
    add(
        "--range-ratio",
        type=_ratio,
        default=0.0,
        metavar="R",
        help="lengths vary by this share (default: 0)",
    )
    add("--prefix-len", type=_count, default=128, metavar="N", help="shared-prefix: tokens of a prefix (default: 128)")
    add("--num-prefixes", type=_count, default=4, metavar="N", help="shared-prefix: how many there are (default: 4)")
    add("--prompt-file", type=Path, metavar="FILE", help="file: text lines, or .jsonl with prompt or messages")
    add("--prompt-form", choices=("auto", "ids", "text"), default="auto", help="random prompts as token ids or text")
    add(
        "--vocab-size",
        type=_vocab_size,
        default=DEFAULT_VOCAB_SIZE,
        metavar="N",
        help="ids are below (default: 1000)",
    )
    add("--seed", type=_whole, default=0, metavar="N", help="of prompts, lengths and arrivals (default: 0)")
    add = parser.add_argument_group("request").add_argument
    add("--set", type=_field, action="append", default=[], metavar="NAME=VALUE", help="a field; VALUE is JSON or text")
    add("--temperature", type=_amount, metavar="T", help="default: not sent, the server's")
    add("--ignore-eos", action=argparse.BooleanOptionalAction, help="default: on, but not for prompts of a file")
    add = parser.add_argument_group("result").add_argument
    add("--goodput", nargs="+", type=_limit, metavar="LIMIT:MS", help="such as ttft:200 tpot:20 e2el:5000")
    add("--processes", type=_processes, metavar="N", help="client processes (default: 1, and more when needed)")
    add("--name", type=_name, default="serving", help="of the file in benchmarks/results (default: serving)")
    add("--output", type=Path, metavar="FILE", help="write the result there in place of benchmarks/results")
    add("--no-result", action="store_true", help="write no result")
    add("--save-requests", action="store_true", help="with every request's times in the result")
    add("--plots", type=Path, metavar="FOLDER", help="write PNG plots there")
    return parser


def _kind(given: argparse.Namespace) -> PromptKind:
    if given.trace is not None:
        return "trace"
    kind: PromptKind = given.prompts or ("file" if given.prompt_file else "random")
    return kind


def _loads(given: argparse.Namespace) -> tuple[Load, ...]:
    kinds = [flag for flag in ("concurrency", "rate", "trace") if getattr(given, flag) is not None]
    if len(kinds) > 1:
        raise FlagError(f"--{kinds[1]}", f"cannot be combined with --{kinds[0]}")
    if given.trace is not None:
        return tuple(Traced(speed, given.max_concurrency) for speed in given.speed or (1.0,))
    if given.rate is not None:
        burstiness = 1.0 if given.burstiness is None else given.burstiness
        return tuple(OpenLoop(rate, burstiness, given.max_concurrency) for rate in given.rate)
    return tuple(ClosedLoop(n) for n in given.concurrency or DEFAULT_CONCURRENCIES)


def _check(given: argparse.Namespace, loads: Sequence[Load]) -> None:
    """Flags that would have no effect are errors, not ignored."""
    is_open, is_traced = given.rate is not None, given.trace is not None
    needs = [
        ("--burstiness", given.burstiness is not None, is_open, "--rate"),
        ("--speed", given.speed is not None, is_traced, "--trace"),
        ("--max-concurrency", given.max_concurrency is not None, is_open or is_traced, "--rate or --trace"),
        ("--prompt-file", given.prompt_file is not None, given.prompts in (None, "file"), "--prompts file"),
        ("--prompts file", given.prompts == "file", given.prompt_file is not None, "--prompt-file"),
    ]
    for flag, is_given, is_met, needed in needs:
        if is_given and not is_met:
            raise FlagError(flag, f"needs {needed}")
    excluded = [
        ("--serve", given.serve is not None, given.url is not None, "--url"),
        ("-- FLAG", bool(given.serve_flags), given.url is not None, "--url"),
        ("--prompts", given.prompts is not None, is_traced, "--trace, which has its own"),
        ("--prompt-file", given.prompt_file is not None, is_traced, "--trace, which has its own"),
        ("--duration", given.duration is not None, given.num_prompts is not None, "--num-prompts"),
        ("--output", given.output is not None, given.no_result, "--no-result"),
        ("--prompt-form", given.prompt_form == "ids", given.endpoint == "chat", "--endpoint chat"),
        ("--save-requests", given.save_requests, given.no_result, "--no-result"),
    ]
    for flag, is_given, is_other, other in excluded:
        if is_given and is_other:
            raise FlagError(flag, f"cannot be combined with {other}")
    if given.duration is not None and any(isinstance(load, OpenLoop) and math.isinf(load.rate) for load in loads):
        raise FlagError("--duration", "cannot be combined with --rate inf, which sends all at once")
    if given.output is not None and (given.output.is_dir() or not given.output.parent.is_dir()):
        raise FlagError("--output", f"{given.output} cannot be written")
    if given.plots is not None and given.plots.exists() and not given.plots.is_dir():
        raise FlagError("--plots", f"{given.plots} is no folder")
    names = [name for name, _ in given.set]
    for name in ("model", "prompt", "messages", "stream"):
        if name in names:
            raise FlagError("--set", f"{name} is not set this way")
    if "temperature" in names and given.temperature is not None:
        raise FlagError("--temperature", "cannot be combined with --set temperature")


def _num_requests(given: argparse.Namespace, trace_len: int) -> int | None:
    """How many requests each load has; None where its duration or its concurrency says."""
    if trace_len:
        return min(given.num_prompts or trace_len, trace_len)
    if given.num_prompts is None and given.duration is None and given.rate is not None:
        return DEFAULT_NUM_PROMPTS
    number: int | None = given.num_prompts
    return number


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_count(part) for part in text.split(","))


def _rates(text: str) -> tuple[float, ...]:
    return tuple(_positive(part) for part in text.split(","))


def _speeds(text: str) -> tuple[float, ...]:
    return tuple(_finite(part) for part in text.split(","))


def _count(text: str) -> int:
    number = _whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def _whole(text: str) -> int:
    if not re.fullmatch(r"\d{1,15}", text.strip(), re.ASCII):
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}")
    return int(text)


def _processes(text: str) -> int:
    number = _count(text)
    if number > MAX_PROCESSES:
        raise argparse.ArgumentTypeError(f"must be at most {MAX_PROCESSES}, not {number}")
    return number


def _vocab_size(text: str) -> int:
    number = _whole(text)
    if number < 2:
        raise argparse.ArgumentTypeError(f"must be at least 2, not {number}")
    return number


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}") from None
    if math.isnan(number):
        raise argparse.ArgumentTypeError("must be a number, not nan")
    return number


def _positive(text: str) -> float:
    number = _number(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"must be more than 0, not {text!r}")
    return number


def _amount(text: str) -> float:
    number = _number(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a finite number of at least 0, not {text!r}")
    return number


def _finite(text: str) -> float:
    number = _positive(text)
    if math.isinf(number):
        raise argparse.ArgumentTypeError("must be finite")
    return number


def _ratio(text: str) -> float:
    number = _number(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 0 and less than 1, not {text!r}")
    return number


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}", text):
        raise argparse.ArgumentTypeError(f"must be letters, digits, '.', '_' and '-', not {text!r}")
    return text


def _field(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, not {text!r}")
    try:
        return name, orjson.loads(value)
    except orjson.JSONDecodeError:
        if value[:1] in ("{", "["):
            raise argparse.ArgumentTypeError(f"{name} is no valid JSON: {value}") from None
        return name, value


def _limit(text: str) -> tuple[str, float]:
    name, _, value = text.partition(":")
    if name not in LIMIT_NAMES:
        raise argparse.ArgumentTypeError(f"must be {' or '.join(f'{n}:MS' for n in LIMIT_NAMES)}, not {text!r}")
    return name, _positive(value)
