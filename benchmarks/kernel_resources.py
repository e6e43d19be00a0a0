"""Compiles every configuration of the fused kernels for sm_80 and sm_90, without a GPU, and tabulates what each takes.

    python benchmarks/kernel_resources.py            # compile what is new or has changed, write the table
    python benchmarks/kernel_resources.py --anew     # compile all of it
    python benchmarks/kernel_resources.py --check    # write nothing, exit with 1 where the table is not as now
    python benchmarks/kernel_resources.py --sample   # compile one configuration of each op, write nothing

A configuration is at fault if it does not compile, does not fit on a multiprocessor, or spills registers where its
launcher says that it must not.

All of them take tens of minutes of a core, so a row of the table carries the digest of all that decides what the
compiler makes: source, types, constants, options, version. Where that is as it was, so is the row. `--check` compiles a
part of them anew all the same, another part for each commit, and compares.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing.pool import Pool
from pathlib import Path

from compiled.processors import PROCESSORS
from compiled.resources import Failure, Resources, Task

_RESULT = Path(__file__).parent / "results" / "kernel_resources.json"
_HOW = "run `make kernels`"
# `--check` compiles one in so many anew.
_PARTS = 16
# After so many the table is written.
_BATCH = 64

Row = Resources | Failure


def open_pool(jobs: int, cache: str) -> Pool:
    """Processes that compile, which do not interpret and keep what they compile in a folder of ours."""
    os.environ.pop("TRITON_INTERPRET", None)
    os.environ["TRITON_CACHE_DIR"] = cache
    return multiprocessing.get_context("spawn").Pool(jobs)


def list_tasks(ops: Sequence[str], capabilities: Sequence[int], sample: bool) -> list[Task]:
    """Every configuration; of all ops if none is named, the first of each if `sample`. In a process of the pool."""
    from compiled import compiling

    compiling.refuse_interpreter()
    found: list[Task] = []
    for op in ops or compiling.ops():
        for capability in capabilities:
            tasks = compiling.tasks(op, capability)
            found += tasks[:1] if sample else tasks
    return found


def read_table(path: Path = _RESULT) -> dict[tuple[str, str, str], Resources]:
    """The committed rows by op, architecture and name; none if there is no table."""
    if not path.is_file():
        return {}
    rows = [
        Resources(**{**row, "matrix": tuple(row["matrix"])}) for row in json.loads(path.read_text())["configurations"]
    ]
    return {row.key: row for row in rows}


def faults(rows: Sequence[Row]) -> Iterator[str]:
    """One line for each configuration that is not fit to ship."""
    for row in rows:
        what = row.message if isinstance(row, Failure) else row.fault
        if what is not None:
            yield f"{row.op}, {row.name}, {row.arch}: {what}"


def stale(tasks: Sequence[Task], table: Mapping[tuple[str, str, str], Resources]) -> Iterator[str]:
    """One line for each configuration that the table lacks, has for nothing, or has as it no longer is."""
    digests = {task.key: task.digest for task in tasks}
    for key in sorted(digests.keys() | table.keys()):
        if key not in digests:
            yield f"{', '.join(key)}: is in the table, and no launcher chooses it"
        elif key not in table:
            yield f"{', '.join(key)}: is not in the table"
        elif table[key].digest != digests[key]:
            yield f"{', '.join(key)}: has changed since the table was written"


def differences(rows: Sequence[Row], table: Mapping[tuple[str, str, str], Resources]) -> Iterator[str]:
    """One line for each configuration, compiled anew, of which the table tells other figures."""
    for row in rows:
        if isinstance(row, Resources) and row != table[row.key]:
            new, old = asdict(row), asdict(table[row.key])
            yield f"{', '.join(row.key)}: " + ", ".join(f"{n} {old[n]} -> {new[n]}" for n in new if old[n] != new[n])


def record(rows: Sequence[Resources]) -> str:
    """The table as JSON, one configuration a line."""
    head = {
        "benchmark": "kernel_resources",
        "compiled_at": datetime.now(UTC).date().isoformat(),
        "triton": version("triton"),
    }
    lines = ",\n".join(f"    {json.dumps(asdict(row))}" for row in sorted(rows, key=lambda row: row.key))
    return json.dumps(head, indent=2).removesuffix("\n}") + f',\n  "configurations": [\n{lines}\n  ]\n}}\n'


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--anew", action="store_true", help="compile what has not changed, too")
    what.add_argument("--check", action="store_true", help="write nothing; exit with 1 where the table is not as now")
    what.add_argument("--sample", action="store_true", help="only one configuration of each op; write nothing")
    what.add_argument("--op", action="append", default=[], help="only this op, anew; repeatable; write nothing")
    parser.add_argument(
        "--arch", type=int, action="append", choices=sorted(PROCESSORS), help="with --op: only this one"
    )
    parser.add_argument("--verbose", action="store_true", help="print every configuration that was compiled")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    given = parser.parse_args(arguments)

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache, open_pool(given.jobs, cache) as pool:
        tasks = pool.apply(list_tasks, (tuple(given.op), tuple(given.arch or sorted(PROCESSORS)), given.sample))
        table = read_table()
        if given.op or given.sample:
            rows = _compile(pool, tasks)
            lines = list(faults(rows))
        elif given.check:
            rows, lines = _check(pool, tasks, table)
        else:
            rows, lines = _write(pool, tasks, {} if given.anew else table)
    if given.verbose:
        for row in rows:
            print(row)
    seconds = time.perf_counter() - started
    print(f"{len(rows)} of {len(tasks)} configurations compiled in {seconds:.0f} s", file=sys.stderr)
    if lines:
        raise SystemExit("\n".join(lines))


def _check(
    pool: Pool, tasks: Sequence[Task], table: Mapping[tuple[str, str, str], Resources]
) -> tuple[list[Row], list[str]]:
    """Compile a part anew. With another version of Triton all of it: then only faults count."""
    if table and json.loads(_RESULT.read_text())["triton"] != version("triton"):
        rows = _compile(pool, tasks)
        return rows, list(faults(rows))
    if outdated := list(stale(tasks, table)):
        return [], [*outdated, f"{_RESULT} is not what the kernels give; {_HOW}"]
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=_RESULT.parent, capture_output=True, text=True, check=False
    )
    part = int(commit.stdout.strip()[:8] or "0", 16) % _PARTS
    rows = _compile(pool, [task for task in tasks if int(task.digest[:8], 16) % _PARTS == part])
    kept = list(table.values())
    return rows, [*faults(rows), *differences(rows, table), *faults(kept)]


def _write(
    pool: Pool, tasks: Sequence[Task], table: Mapping[tuple[str, str, str], Resources]
) -> tuple[list[Row], list[str]]:
    """Compile what the table does not have. It is written now and then, so that a run that is cut short counts."""
    kept = {t.key: table[t.key] for t in tasks if t.key in table and table[t.key].digest == t.digest}
    missing = [task for task in tasks if task.key not in kept]
    rows: list[Row] = []
    for start in range(0, max(len(missing), 1), _BATCH):
        rows += _compile(pool, missing[start : start + _BATCH])
        compiled = [row for row in rows if isinstance(row, Resources)]
        _RESULT.write_text(record([*kept.values(), *compiled]))
        print(f"{len(rows)} of {len(missing)} compiled; written to {_RESULT}", flush=True)
    return rows, list(faults([*rows, *kept.values()]))


def _compile(pool: Pool, tasks: Sequence[Task]) -> list[Row]:
    return sorted(pool.imap_unordered(_compile_one, tasks), key=lambda row: row.key)


def _compile_one(task: Task) -> Row:
    from compiled.compiling import compile_one

    return compile_one(task)


if __name__ == "__main__":
    main()
