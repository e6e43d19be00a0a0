"""The phases of the shipped training; the weights pass from one to the next in bfloat16.

1. Documents that share a row see each other, which is quick and teaches words, grammar and facts. But the model does
   not learn there that a story keeps its names: a row holds several stories.
2. Every document is alone, batches are smaller, and exercises in copying are a good part of the corpus, until the model
   has learned to look back.
3. The same with few of these exercises, to the end of the cosine.
4. The same without them, at a lower rate, so that the model does not take a plain text for an exercise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from penstock_demo.corpus import KINDS_OF_SUMS, Document
from penstock_demo.schedule import Schedule
from penstock_demo.train import Recipe


@dataclass(frozen=True, slots=True)
class Phase:
    """A recipe (its seed is added to the training's) and what its corpus is made of."""

    recipe: Recipe
    num_documents: int
    num_repetitions: int
    copies_of_sums: int


_LATER = Recipe(num_steps=None, rows_per_step=4, schedule=Schedule(peak_rate=1.5e-3, warm_up_steps=50))
PHASES = (
    Phase(Recipe(num_steps=1534, horizon=3600, rows_per_step=8, attention="across documents"), 200_000, 0, 1),
    Phase(replace(_LATER, num_steps=600, horizon=4000, seed=1), 30_000, 40_000, 2),
    Phase(replace(_LATER, num_steps=1700, seed=2), 60_000, 4_000, 3),
    Phase(
        replace(_LATER, num_steps=480, seed=3, schedule=Schedule(peak_rate=7e-4, final_rate=2e-5, warm_up_steps=20)),
        30_000,
        0,
        3,
    ),
)
NUM_STEPS = sum(phase.recipe.num_steps or 0 for phase in PHASES)


def select(
    documents: Sequence[Document], encoded: Sequence[list[int]], repetitions: Sequence[list[int]], phase: Phase
) -> list[list[int]]:
    """Return the token ids of the documents of `phase`; `encoded` belongs to `documents` one by one."""
    chosen = [
        ids
        for document, ids in zip(documents[: phase.num_documents], encoded[: phase.num_documents], strict=True)
        for _ in range(phase.copies_of_sums if document.kind in KINDS_OF_SUMS else 1)
    ]
    return chosen + list(repetitions[: phase.num_repetitions])


def shortened(phases: tuple[Phase, ...], num_steps: int) -> tuple[Phase, ...]:
    """Return `phases` with `num_steps` in all, in the same proportions."""
    share = num_steps / NUM_STEPS
    return tuple(
        replace(phase, recipe=replace(phase.recipe, num_steps=_part(phase.recipe.num_steps, share), horizon=None))
        for phase in phases
    )


def timed(phases: tuple[Phase, ...], minutes: float) -> tuple[Phase, ...]:
    """Return `phases` that take `minutes` in all, shared out by the tokens they read."""
    weights = [(phase.recipe.num_steps or 0) * phase.recipe.rows_per_step for phase in phases]
    return tuple(
        replace(
            phase,
            recipe=replace(phase.recipe, num_steps=None, horizon=None, minutes=minutes * weight / sum(weights)),
        )
        for phase, weight in zip(phases, weights, strict=True)
    )


def _part(num_steps: int | None, share: float) -> int:
    return max(1, round((num_steps or 0) * share))
