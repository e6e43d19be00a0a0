"""A run of the benchmark, from its command line to its result. Puts the other parts together."""

import contextlib
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from machine import commit_facts, machine_facts, write_result
from quiet import ForeignLoad, warn_unless_quiet

from load.crew import Crew
from load.errors import BenchmarkError
from load.flags import read_flags
from load.measure import Measurement, measure, num_requests_of
from load.own_server import serving
from load.prepare import Prepared, prepare
from load.progress import progress_bar
from load.record import result_record
from load.settings import Settings
from load.table import notes, result_table, sweep_table

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark that a command line asks for; the process's exit status.

    0; 1: a load had no answer; 2: it could not begin; `INTERRUPTED`: stopped by Ctrl-C.
    """
    try:
        return run(read_flags(arguments))
    except BenchmarkError as error:
        print(f"serving.py: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("serving.py: stopped before anything was measured", file=sys.stderr)
        return INTERRUPTED


def run(settings: Settings) -> int:
    """Measure every load, print what it gave, and write the result. Stopped by Ctrl-C, with what there is by then."""
    measurements: list[Measurement] = []
    with contextlib.ExitStack() as stack:
        base = settings.server.base
        if base is None:
            print(f"serving {settings.server.serve} for this benchmark", file=sys.stderr, flush=True)
            base = stack.enter_context(serving(settings.server.serve, settings.server.serve_flags))
        prepared = prepare(settings, base)
        crew = stack.enter_context(Crew())
        # Of a server that is not ours nobody can tell whether its work is foreign.
        others = ForeignLoad() if settings.server.base is None else None
        is_stopped = False
        try:
            for measurement in _measured(crew, prepared, settings):
                measurements.append(measurement)
                print(f"\n{measurement.load.label}\n{result_table(measurement.load, measurement.figures)}")
                for note in notes(measurement):
                    print(f"! {note}")
                sys.stdout.flush()
                is_stopped = measurement.is_interrupted
        except KeyboardInterrupt:
            if not measurements:
                raise
            is_stopped = True
        foreign_load = None if others is None else others.since_last()
    _report(settings, prepared, measurements, foreign_load)
    if is_stopped:
        print("\nstopped: what stands above is a part of what was asked for", file=sys.stderr)
        return INTERRUPTED
    return 0 if all(measurement.figures.num_completed for measurement in measurements) else 1


def _measured(crew: Crew, prepared: Prepared, settings: Settings) -> Iterator[Measurement]:
    """Each load's last attempt, until one is interrupted."""
    # What `prepare` sent was of series 0.
    series = itertools.count(1)
    for load in settings.loads:
        with progress_bar(load.label, num_requests_of(load, settings)) as watch:
            *earlier, last = measure(crew, prepared, settings, load, series, watch)
        for attempt in earlier:
            print(
                f"{load.label}: with --processes {len(attempt.clients)} the client was the limit "
                f"({'; '.join(attempt.client_limits)}); measured again with more",
                file=sys.stderr,
            )
        yield last
        if last.is_interrupted:
            return


def _report(
    settings: Settings, prepared: Prepared, measurements: Sequence[Measurement], foreign_load: float | None
) -> None:
    if len(settings.loads) > 1:
        print(f"\n{sweep_table(measurements)}")
    if foreign_load is not None:
        warn_unless_quiet(foreign_load)
    record = result_record(settings, prepared, measurements, foreign_load)
    if settings.saves_result:
        print(f"\nwritten to {write_result(settings.name, record)}")
    elif settings.output is not None:
        _write(settings.output, settings.name, record)
        print(f"\nwritten to {settings.output}")
    if settings.plots is not None:
        from load.plots import draw_plots  # matplotlib takes a second to load, in every client process too

        for path in draw_plots(record, settings.plots, settings.name):
            print(f"drawn to {path}")


def _write(path: Path, name: str, record: dict[str, Any]) -> None:
    head = {"benchmark": name, "measured_at": datetime.now(UTC).isoformat(timespec="seconds")}
    try:
        path.write_text(json.dumps({**head, **commit_facts(), "machine": machine_facts(), **record}, indent=2) + "\n")
    except OSError as error:
        raise BenchmarkError(f"--output: {path} cannot be written: {error.strerror}") from None
