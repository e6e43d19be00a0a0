"""A contest of sides: each is checked, tried with each way of waiting, and measured in alternation with the others.

Nothing here adds figures up; that is `summary`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from quiet import ForeignLoad

from sides.process import SideFailed, SideProcess, Timed
from sides.side import Terms
from sides.work import Work

OURS = "LLM"
ALONE = "generate"
BATCHED = "generate, batched"
CONTINUOUS = "continuous batching"
# Ours first: it is what the others' tokens are held against. The ways of waiting that are tried; the first one is
# what each has without asking: ours as the engine process of `penstock serve`, the others as a script has it.
CANDIDATES: Mapping[str, Sequence[str]] = {
    OURS: ("short spin", "default", "passive"),
    ALONE: ("default", "passive"),
    BATCHED: ("default", "passive"),
    CONTINUOUS: ("default", "passive"),
}
# It is young, and made for GPUs: where it cannot run, the others are compared all the same.
OPTIONAL = (CONTINUOUS,)


class Disagreement(Exception):
    """Two sides gave different tokens where they must not: one of them computes something else."""


@dataclass(frozen=True, slots=True)
class Task:
    """A checkpoint and the terms on which it is loaded."""

    folder: Path
    terms: Terms


@dataclass(slots=True)
class Contender:
    """A side that takes part, or the reason why it does not.

    `processes` holds one for each way of waiting until `choose`, then the fastest; none when it takes no part.
    """

    name: str
    processes: list[SideProcess]
    reason: str | None = None
    baseline: int = 0
    checked_answers: list[list[int]] = field(default_factory=list)
    description: dict[str, Any] = field(default_factory=dict)

    @property
    def is_present(self) -> bool:
        return bool(self.processes)

    def withdraw(self, error: SideFailed) -> None:
        """Take no further part. Raises the error if this side has to."""
        self.close()
        if self.name not in OPTIONAL:
            raise error
        self.reason = str(error)

    def close(self) -> None:
        """End its processes."""
        for process in self.processes:
            process.close()
        self.processes = []


def start(name: str, wait_policies: Sequence[str], task: Task) -> Contender:
    """Start a process for each way of waiting and let it load, without waiting for that: `check` does."""
    contender = Contender(name, [SideProcess(name, wait_policy) for wait_policy in wait_policies])
    try:
        for process in contender.processes:
            process.ask("load", folder=str(task.folder), terms=asdict(task.terms))
    except SideFailed as error:
        contender.withdraw(error)
    return contender


def check(contender: Contender, work: Work, warm_up: Task) -> None:
    """Let every process answer on the checkpoint it was started with, and again on that of `warm_up`.

    `compare` looks at the first answers. The second ones bring into memory what the libraries need for any model, so
    that it is part of the baseline.
    """
    try:
        for process in contender.processes:
            process.loaded()
            contender.checked_answers = process.answer(work.prompts, work.answer_lengths).answers
            process.unload()
            process.load(warm_up.folder, warm_up.terms)
            process.answer(work.prompts, work.answer_lengths)
            process.unload()
    except SideFailed as error:
        contender.withdraw(error)


def compare(contenders: Sequence[Contender]) -> int:
    """Hold the checked answers against each other; returns how many tokens each side gave.

    Raises:
        Disagreement: says the sides, the prompt and the place.
    """
    first, *others = [contender for contender in contenders if contender.is_present]
    for other in others:
        pairs = zip(first.checked_answers, other.checked_answers, strict=True)
        for prompt, (left, right) in enumerate(pairs):
            for place, (ours, theirs) in enumerate(zip(left, right, strict=True)):
                if ours != theirs:
                    raise Disagreement(
                        f"{first.name} and {other.name} differ on prompt {prompt} at token {place}: {ours} and {theirs}"
                    )
    return sum(len(answer) for answer in first.checked_answers)


def choose(contender: Contender, task: Task, trial: Work) -> None:
    """Load what is to be measured, and keep the process that is fastest on `trial`.

    The best of two goes counts, after one to warm up.
    """
    tried = contender.processes
    try:
        baselines = [process.baseline() for process in tried]
        descriptions = [process.load(task.folder, task.terms) for process in tried]
        seconds = [_best(process, trial) for process in tried]
    except SideFailed as error:
        contender.withdraw(error)
        return
    best = seconds.index(min(seconds))
    contender.processes = [tried[best]]
    contender.baseline = baselines[best]
    contender.description = descriptions[best] | {
        "seconds_by_wait_policy": {process.wait_policy: time for process, time in zip(tried, seconds, strict=True)}
    }
    for process in tried:
        if process is not tried[best]:
            process.close()


@dataclass(frozen=True, slots=True)
class Measurement:
    """One side's one go. `seconds` per answer for latency, one for all of them for throughput."""

    round: int
    side: str
    num_tokens: int
    seconds: list[float]
    first_token_seconds: list[float]
    foreign_load: float


def latency_round(number: int, contenders: Sequence[Contender], first: Work, whole: Work) -> Iterator[Measurement]:
    """Prompts one at a time: those of `first` ask for one token, those of `whole` for an answer."""
    for contender in _order(number, contenders):
        if contender.name == BATCHED:
            continue  # a batch of one prompt is what the side does that takes one at a time
        foreign = ForeignLoad()
        try:
            firsts = [_answer(contender, one).seconds for one in first.singles()]
            wholes = [_answer(contender, one).seconds for one in whole.singles()]
        except SideFailed as error:
            contender.withdraw(error)
            continue
        yield Measurement(number, contender.name, whole.num_answer_tokens, wholes, firsts, foreign.since_last())


def throughput_round(number: int, contenders: Sequence[Contender], work: Work, num_alone: int) -> Iterator[Measurement]:
    """All prompts at once; the side that takes one at a time gets only the first `num_alone`, to end in time."""
    for contender in _order(number, contenders):
        foreign = ForeignLoad()
        part = work.first(num_alone) if contender.name == ALONE else work
        try:
            timed = _answer(contender, part)
        except SideFailed as error:
            contender.withdraw(error)
            continue
        yield Measurement(number, contender.name, part.num_answer_tokens, [timed.seconds], [], foreign.since_last())


def _order(number: int, contenders: Sequence[Contender]) -> list[Contender]:
    """Those who take part, every other round in reverse: a machine that slows down harms all alike."""
    present = [contender for contender in contenders if contender.is_present]
    return present[:: -1 if number % 2 else 1]


def _answer(contender: Contender, work: Work) -> Timed:
    (process,) = contender.processes
    return process.answer(work.prompts, work.answer_lengths)


def _best(process: SideProcess, trial: Work) -> float:
    return min([process.answer(trial.prompts, trial.answer_lengths).seconds for _ in range(3)][1:])
