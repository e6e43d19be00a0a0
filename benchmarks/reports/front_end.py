"""Section of `front_end.py`: what a chunk costs the API processes, beside what writing it costs."""

from reports.record import Record
from reports.section import Section, bullets, provenance, several, table


def render(record: Record) -> Section:
    settings = record.part("settings")
    cases = record.parts("cases")
    is_met = "met" if all(case.flag("goal_met") for case in cases) else "**not met** by all"
    goal = record.number("goal_per_chunk")
    return Section(
        "The front end with a model that costs nothing",
        [
            f"`penstock serve null:` answers so many streams at once, {settings.count('num_tokens')} tokens each, a"
            " chunk for each token. A chunk's cost is the processor time that the API processes had, over the chunks"
            " that they sent: it does not depend on how many cores there are, though others who use them make all of it"
            " dearer. The floor is that of a bare server (uvloop, prebuilt bytes) that wrote as many chunks of the same"
            f" size right before each of the {several(settings.count('rounds'), 'round')}."
            f" Measured by `{record.text('command')}`.",
            table(
                [
                    "API processes",
                    "streams",
                    "µs a chunk",
                    "floor µs",
                    "times the floor",
                    "engine µs a token",
                    "chunks/s, all on these cores",
                    "event loop lag p99 ms, up to",
                ],
                [_row(case) for case in cases],
            ),
            _first_token(record.part("first_token")),
            bullets(
                [
                    f"Goal: {1e-3 / goal:.0f} thousand chunks a second on one core, so {1e6 * goal:.0f} µs a chunk;"
                    f" {is_met}.",
                    provenance(record),
                ]
            ),
        ],
        [],
    )


def _row(case: Record) -> list[str]:
    return [
        str(case.count("workers")),
        str(case.count("streams")),
        f"{1e6 * case.number('per_chunk'):.1f}",
        f"{1e6 * case.number('floor_per_chunk'):.1f}",
        f"{case.number('times_floor'):.2f}x",
        f"{1e6 * case.number('engine_per_chunk'):.1f}",
        f"{case.number('chunks_per_second'):.0f}",
        f"{1e3 * case.number('lag'):g}" if case.has("lag") else "",
    ]


def _first_token(first: Record) -> str:
    median, goal = first.number("median"), first.number("goal")
    is_met = "met" if median <= goal else "**not met**"
    return (
        f"**First token** of a short prompt on an idle server, all of it outside the model: {1e3 * median:.2f} ms"
        f" (median), {1e3 * first.number('p99'):.2f} ms (p99); goal: under {1e3 * goal:.0f} ms, {is_met}."
    )
