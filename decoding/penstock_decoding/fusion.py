"""What of a chain the fused ops do: a table of the processors that they hold, in the order in which they do them.

A chain is data, and these rules compile it: it fuses if its steps are some of the rules', in the rules' order. What
does not fuse goes the unfused way, which is the oracle of this one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from penstock_decoding.draws import BestTokens, RowDraw, SampledTokens
from penstock_decoding.params import Step
from penstock_decoding.processors.min_p import MinPParams
from penstock_decoding.processors.penalties import PenaltiesParams
from penstock_decoding.processors.temperature import SMALLEST, TemperatureParams
from penstock_decoding.processors.top_k import TopKParams
from penstock_decoding.processors.top_p import TopPParams


@dataclass(frozen=True, slots=True)
class FusedChain:
    """A whole chain as the numbers that the fused ops take; the defaults are those of a chain without any step."""

    repetition: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    @property
    def penalises(self) -> bool:
        """Whether it depends on what the sequence has used."""
        return (self.repetition, self.presence, self.frequency) != (1.0, 0.0, 0.0)

    @property
    def cuts(self) -> bool:
        """Whether it looks for the k likeliest tokens or for a nucleus."""
        return self.top_k > 0 or self.top_p < 1


@dataclass(frozen=True, slots=True)
class Rule:
    """A processor that can be fused.

    params: the type of its parameters. fuse: the chain so far, with the step of these parameters behind it.
    """

    processor: str
    params: type[Any]
    fuse: Callable[[FusedChain, Any], FusedChain]


def _penalties(chain: FusedChain, params: PenaltiesParams) -> FusedChain:
    return replace(chain, repetition=params.repetition, presence=params.presence, frequency=params.frequency)


def _temperature(chain: FusedChain, params: TemperatureParams) -> FusedChain:
    # 0 stands for the largest score alone, and float32 would round to it what lies far enough below.
    return replace(chain, temperature=max(params.value, SMALLEST))


def _top_k(chain: FusedChain, params: TopKParams) -> FusedChain:
    return replace(chain, top_k=max(params.count, 0))


def _top_p(chain: FusedChain, params: TopPParams) -> FusedChain:
    return replace(chain, top_p=params.mass)


def _min_p(chain: FusedChain, params: MinPParams) -> FusedChain:
    return replace(chain, min_p=params.share)


RULES = (
    Rule("penalties", PenaltiesParams, _penalties),
    Rule("temperature", TemperatureParams, _temperature),
    Rule("top_k", TopKParams, _top_k),
    Rule("top_p", TopPParams, _top_p),
    Rule("min_p", MinPParams, _min_p),
)


def fuse(chain: Sequence[Step]) -> FusedChain | None:
    """The chain as the fused ops take it; None if they cannot do all of it."""
    fused = FusedChain()
    left = iter(RULES)  # a step that stands behind its place finds its rule gone
    for step in chain:
        rule = _rule_of(step, left)
        if rule is None:
            return None
        fused = rule.fuse(fused, step.params)
    return fused


def chooses_one(draw: RowDraw) -> bool:
    """Whether a draw is one token, the best or a sampled one, without its processed log-probability."""
    if draw.with_logprobs:
        return False
    match draw:
        case BestTokens(count=1) | SampledTokens(samples=(_,)):
            return True
        case _:
            return False


def _rule_of(step: Step, rules: Iterator[Rule]) -> Rule | None:
    return next((rule for rule in rules if rule.processor == step.name and rule.params is type(step.params)), None)
