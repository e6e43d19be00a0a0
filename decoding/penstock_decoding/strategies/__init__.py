"""The table of strategies by name."""

from penstock_decoding.strategies.greedy import Greedy
from penstock_decoding.strategies.sample import Sample
from penstock_decoding.strategy import Strategy

STRATEGIES: dict[str, type[Strategy]] = {
    "greedy": Greedy,
    "sample": Sample,
}
