"""What the front end costs: everything that is not a model, measured with a model that is none.

`penstock serve null:` answers crowds of streams; the processor time that its API processes have had, over the chunks
that they sent, is what a chunk costs. Unlike chunks per second it does not ask how many cores there are, nor who else
is using them. Right before each round a bare server writes as many chunks of the same size: the floor, under the same
conditions. Then a single stream on the idle server tells how long a first token takes outside the model.

    python benchmarks/front_end.py
    python benchmarks/front_end.py --url http://127.0.0.1:8000 --pid 1234 --model NAME   # any server with this API
"""

import argparse
import contextlib
import shlex
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from front.crowd import CrowdError, Round, RoundFigures
from front.metrics_page import Lags
from front.processes import Crowd, ServerTree, bare_server, crowd_at
from load.errors import BenchmarkError
from load.own_server import serving
from machine import RESULTS, write_result
from quiet import QUIET, ForeignLoad

# 40 000 chunks a second on one core; seconds.
GOAL_PER_CHUNK = 25e-6
# Outside the model, until the first token of a short prompt; seconds.
GOAL_FIRST_TOKEN = 3e-3


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured. `merges`: the server may put several tokens in a chunk; what a token costs is told then."""

    crowds: tuple[int, ...]
    workers: tuple[int, ...]
    num_tokens: int
    rounds: int
    num_first_tokens: int
    merges: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A server that is there. `pid`: the process that was started."""

    url: str
    model: str
    pid: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One round, and the floor's just before it. Seconds; of a chunk: processor time of all processes of a kind."""

    per_chunk: float
    floor_per_chunk: float
    engine_per_chunk: float
    load_per_chunk: float
    chunks_per_second: float
    floor_chunks_per_second: float
    bytes_per_chunk: float
    first_chunk: float
    slowest_first_chunks: float
    lag: float | None
    foreign_load: float


def measure_crowd(target: Target, num_streams: int, settings: Settings) -> list[Measured]:
    """Rounds of so many streams, after one that does not count.

    Raises:
        BenchmarkError: a stream was refused or broke off.
    """
    round_ = Round(num_streams, settings.num_tokens)
    tree, foreign, measured = ServerTree(target.pid), ForeignLoad(), []
    with crowd_at(target.url, target.model) as crowd:
        num_bytes = _bytes_per_chunk(crowd.run(round_))
        with bare_server(num_bytes, settings.num_tokens) as (bare_url, bare_pid), crowd_at(bare_url, "") as bare:
            floor_tree = ServerTree(bare_pid)
            bare.run(round_)
            for _ in range(settings.rounds):
                foreign.since_last()
                floor, floor_cpu, _ = _run(bare, round_, floor_tree)
                before = Lags.of(target.url)
                figures, api, engine = _run(crowd, round_, tree)
                after = Lags.of(target.url)
                count = num_streams * settings.num_tokens if settings.merges else figures.num_chunks
                if count < num_streams * settings.num_tokens * 0.9:
                    raise BenchmarkError(f"only {count} chunks came: a chunk must be a token, or see --merges")
                measured.append(
                    Measured(
                        per_chunk=api / count,
                        floor_per_chunk=floor_cpu / floor.num_chunks,
                        engine_per_chunk=engine / count,
                        load_per_chunk=figures.load_seconds / count,
                        chunks_per_second=count / figures.seconds,
                        floor_chunks_per_second=floor.num_chunks / floor.seconds,
                        bytes_per_chunk=figures.num_bytes / count,
                        first_chunk=statistics.median(figures.first_chunks),
                        slowest_first_chunks=figures.first_chunks[int(0.99 * num_streams)],
                        lag=after.since(before).quantile(0.99) if before and after else None,
                        foreign_load=foreign.since_last(),
                    )
                )
    return measured


def measure_first_token(target: Target, count: int) -> dict[str, float]:
    """One request at a time, for one token: seconds until it is there, and what it cost the API processes."""
    tree = ServerTree(target.pid)
    with crowd_at(target.url, target.model) as crowd:
        crowd.run(Round(1, 1, repeats=10))
        before = tree.cpu_seconds()
        seconds = crowd.run(Round(1, 1, repeats=count)).first_chunks
        cost = tree.cpu_seconds().api - before.api
    return {
        "median": statistics.median(seconds),
        "p99": seconds[int(0.99 * count)],
        "least": seconds[0],
        "api_seconds_per_request": cost / count,
    }


def summarize(measured: Sequence[Measured]) -> dict[str, Any]:
    """Medians of all rounds."""
    names = [name for name in asdict(measured[0]) if name != "lag"]
    told: dict[str, Any] = {name: statistics.median(getattr(one, name) for one in measured) for name in names}
    told["times_floor"] = statistics.median(one.per_chunk / one.floor_per_chunk for one in measured)
    lags = [one.lag for one in measured if one.lag is not None]
    return told | {"lag": max(lags, default=None), "goal_met": told["per_chunk"] <= GOAL_PER_CHUNK}


@contextlib.contextmanager
def own_server(workers: int, serve_flags: Sequence[str]) -> Iterator[Target]:
    """A `penstock serve null:` with room for every crowd."""
    flags = ["--max-rows", "1024", "--max-queue", "4096", *serve_flags]
    with serving("null:", [*flags, "--api-workers", str(workers)] if workers > 1 else flags) as url:
        yield Target(url, "null", _listening(url))


def _listening(url: str) -> int:
    """The child of this process that listens there."""
    port = urlsplit(url).port
    for child in psutil.Process().children():
        if any(one.laddr.port == port for one in child.net_connections("tcp") if one.status == psutil.CONN_LISTEN):
            return int(child.pid)
    raise BenchmarkError(f"no process that was started here listens at {url}")


def _run(crowd: Crowd, round_: Round, tree: ServerTree) -> tuple[RoundFigures, float, float]:
    """A round, and the processor seconds of the server's API processes and of its others meanwhile."""
    before = tree.cpu_seconds()
    figures = crowd.run(round_)
    after = tree.cpu_seconds()
    return figures, after.api - before.api, after.engine - before.engine


def _bytes_per_chunk(figures: RoundFigures) -> int:
    return max(round(figures.num_bytes / max(figures.num_chunks, 1)), 64)


def _print(workers: int, num_streams: int, told: dict[str, Any]) -> None:
    lag = "" if told["lag"] is None else f"{1e3 * told['lag']:.1f}"
    print(
        f"{workers:7}  {num_streams:7}  {1e6 * told['per_chunk']:13.1f}  {1e6 * told['floor_per_chunk']:8.1f}"
        f"  {told['times_floor']:7.2f}  {1e6 * told['engine_per_chunk']:9.1f}  {told['chunks_per_second']:8.0f}"
        f"  {1e3 * told['first_chunk']:14.1f}  {lag:>10}  {told['foreign_load']:12.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[256, 1000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="API processes, of servers of our own")
    parser.add_argument("--tokens", type=int, default=128, help="of each stream")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--first-tokens", type=int, default=300, help="requests for a single token")
    parser.add_argument("--url", help="root of a server that is there already; needs --pid and --model")
    parser.add_argument("--pid", type=int, help="its process: the one that answers HTTP, and the parent of the others")
    parser.add_argument("--model", help="the name that its requests give")
    parser.add_argument("--merges", action="store_true", help="the server may put several tokens in one chunk")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder that the figures are written to")
    parser.add_argument("--name", default="front_end", help="name of the file in it: front_end, or front_end_...")
    parser.add_argument("serve_flags", nargs="*", help="after --: more flags for penstock serve")
    given = parser.parse_args()
    crowds, workers = tuple(given.streams), tuple(given.workers)
    settings = Settings(crowds, workers, given.tokens, given.rounds, given.first_tokens, given.merges)
    if given.url is not None and (given.pid is None or given.model is None):
        parser.error("--url needs --pid and --model")
    try:
        cases, first_token = _measure(given, settings)
    except (BenchmarkError, CrowdError, psutil.Error) as error:
        raise SystemExit(f"front_end.py: {error}") from None
    first_token["goal"] = GOAL_FIRST_TOKEN
    print(f"first token on an idle server: {1e3 * first_token['median']:.2f} ms, p99 {1e3 * first_token['p99']:.2f}")
    foreign = statistics.median(case["foreign_load"] for case in cases)
    path = write_result(
        given.name,
        {
            "command": shlex.join(["python", "benchmarks/front_end.py", *sys.argv[1:]]),
            "settings": asdict(settings) | {"serve_flags": given.serve_flags},
            "goal_per_chunk": GOAL_PER_CHUNK,
            "is_quiet": foreign <= QUIET,
            "cases": cases,
            "first_token": first_token,
        },
        given.results,
    )
    print(f"written to {path}")


def _measure(given: argparse.Namespace, settings: Settings) -> tuple[list[dict[str, Any]], dict[str, float]]:
    print(
        "workers  streams  API us a chunk  floor us  times it  engine us  chunks/s  first chunk ms  lag p99 ms"
        "  foreign load"
    )
    cases: list[dict[str, Any]] = []
    first_token: dict[str, float] = {}
    for workers in settings.workers if given.url is None else (1,):
        with contextlib.ExitStack() as stack:
            if given.url is None:
                target = stack.enter_context(own_server(workers, given.serve_flags))
            else:
                target = Target(given.url.rstrip("/"), given.model, given.pid)
            first_token = first_token or measure_first_token(target, settings.num_first_tokens)
            for num_streams in settings.crowds:
                measured = measure_crowd(target, num_streams, settings)
                told = summarize(measured)
                _print(workers, num_streams, told)
                rounds = [asdict(one) for one in measured]
                cases.append({"workers": workers, "streams": num_streams, **told, "rounds": rounds})
    return cases, first_token


if __name__ == "__main__":
    main()
