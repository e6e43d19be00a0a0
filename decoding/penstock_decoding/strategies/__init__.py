"""The table of strategies by name."""

from penstock_decoding.strategies.beam import Beam
from penstock_decoding.strategies.constrained_beam import ConstrainedBeam
from penstock_decoding.strategies.greedy import Greedy
from penstock_decoding.strategies.sample import Sample
from penstock_decoding.strategies.stochastic_beam import StochasticBeam
from penstock_decoding.strategy import Strategy

STRATEGIES: dict[str, type[Strategy]] = {
    "greedy": Greedy,
    "sample": Sample,
    "beam": Beam,
    "constrained_beam": ConstrainedBeam,
    "stochastic_beam": StochasticBeam,
}
