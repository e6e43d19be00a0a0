"""Holds contests one after another, and keeps a record of them that can be written at any time."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from kernels.clock import measure
from kernels.contest import Contest, WrongResult, check
from kernels.floors import Floors

OURS = ("reference", "fused")
"""What the names of the sides begin with that have to work; a peer that does not is noted as not available."""


@dataclass(slots=True)
class Held:
    """What became of the contests. `problems`: one line for each of our sides that failed or was wrong."""

    contests: list[dict[str, Any]] = field(default_factory=list)
    not_measured: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {"contests": self.contests, "not_measured": self.not_measured, "problems": self.problems}


def hold(
    contests: Iterable[Contest],
    floors: Floors,
    device: torch.device,
    *,
    deadline: float = float("inf"),
    after_each: Callable[[Held], object] = lambda held: None,
) -> Held:
    """Check and time every side of every contest, in order.

    deadline: of `time.monotonic`; contests that come after it are named and not held.
    after_each: called with what there is after each contest, to write it.
    """
    held = Held()
    for contest in contests:
        place = f"{contest.op}, {contest.size}"
        if time.monotonic() > deadline:
            held.not_measured.append(f"{place}: the time was up")
            continue
        held.contests.append(_hold_one(contest, place, floors, device, held.problems))
        print_contest(held.contests[-1])
        after_each(held)
        del contest  # its tensors are gone before the next one's are made: the largest caches do not fit twice
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return held


def print_contest(record: dict[str, Any]) -> None:
    print(f"\n{record['op']}, {record['size']}; floor {record['floor_seconds'] * 1e6:.2f} us", flush=True)
    for name, side in record["sides"].items():
        speed = f"{side['bytes_per_second'] / 1e9:8.1f} GB/s"
        if "operations_per_second" in side:
            speed += f"  {side['operations_per_second'] / 1e12:7.2f} TFLOP/s"
        print(
            f"  {name:<24}{side['seconds'] * 1e6:12.2f} us  {side['share']:7.1%} of the floor  {speed}  {side['how']}"
        )
    for name, reason in record["not_available"].items():
        print(f"  {name:<24}not measured: {reason}")


def _hold_one(
    contest: Contest, place: str, floors: Floors, device: torch.device, problems: list[str]
) -> dict[str, Any]:
    floor = floors.seconds(contest)
    record: dict[str, Any] = {
        "op": contest.op,
        "size": contest.size,
        "num_bytes": contest.num_bytes,
        "num_operations": contest.num_operations,
        "floor_seconds": floor,
        "goal": {"kind": contest.goal.kind, "value": contest.goal.value} if contest.goal else None,
        "sides": {},
        "not_available": dict(contest.not_run),
    }
    expected = None
    with torch.inference_mode():
        for name, side in {**contest.sides, **contest.others}.items():
            try:
                if name in contest.sides:
                    result = side()()
                    if expected is None:
                        expected = result
                    else:
                        check(name, result, expected, contest.dtype)
                    del result
                timing = measure(side, contest.num_bytes, device)
            except WrongResult as error:
                problems.append(f"{place}: {error}")
                continue
            except Exception as error:
                # A peer may not exist in this version or not fit; one of ours that fails is a fault, told at the end.
                reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
                record["not_available"][name] = reason[:300]
                if name.startswith(OURS):
                    problems.append(f"{place}: {name}: {reason[:300]}")
                continue
            figures = timing.as_json()
            figures["bytes_per_second"] = contest.num_bytes / timing.median
            if contest.num_operations:
                figures["operations_per_second"] = contest.num_operations / timing.median
            figures["share"] = floor / timing.median
            record["sides"][name] = figures
    return record
