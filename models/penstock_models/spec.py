"""`ModelSpec`: everything in which one decoder-only transformer differs from another. Torch-free."""

from dataclasses import dataclass
from typing import Literal

Activation = Literal["silu", "gelu", "gelu_tanh"]
NormKind = Literal["rms", "layer"]


@dataclass(frozen=True, slots=True)
class LinearScaling:
    """Positions divided by `factor` (Chen et al. 2023, "Position Interpolation")."""

    factor: float


@dataclass(frozen=True, slots=True)
class DynamicScaling:
    """The base grows with the length once it exceeds `original_max_positions` (NTK-aware scaling, dynamic)."""

    factor: float
    original_max_positions: int


@dataclass(frozen=True, slots=True)
class Llama3Scaling:
    """Long wavelengths divided by `factor`, short ones kept, a ramp between (Llama 3.1)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int


@dataclass(frozen=True, slots=True)
class YarnScaling:
    """Interpolation of slow features, extrapolation of fast ones, scaled cosines (Peng et al. 2023, "YaRN")."""

    factor: float
    original_max_positions: int
    beta_fast: float
    beta_slow: float
    attention_factor: float
    truncate: bool


RopeScaling = LinearScaling | DynamicScaling | Llama3Scaling | YarnScaling


@dataclass(frozen=True, slots=True)
class RotaryPositions:
    """The first `size` features of each head rotated, half-split layout; base `theta`."""

    theta: float
    size: int
    scaling: RopeScaling | None = None


@dataclass(frozen=True, slots=True)
class LearnedPositions:
    """One learned vector for each of the model's `max_positions`, added to the embedding."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A pre-norm decoder-only transformer. Sizes in elements.

    windows: for each layer how many keys a query sees, itself included; None for all.
    attention_scales: for each layer the factor of the attention scores.
    qkv_bias, attention_out_bias, mlp_bias: which linear layers add a bias. A layer norm always has one.
    qk_norm: an RMS norm over each query and key head before the rotation.
    gated_mlp: down(activation(gate(x)) * up(x)); else down(activation(up(x))).
    tied_head: the head is the embedding.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    mlp_size: int
    max_positions: int
    positions: RotaryPositions | LearnedPositions
    norm: NormKind
    norm_eps: float
    activation: Activation
    gated_mlp: bool
    qkv_bias: bool
    attention_out_bias: bool
    mlp_bias: bool
    qk_norm: bool
    tied_head: bool
    windows: tuple[int | None, ...]
    attention_scales: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raises ValueError where two fields contradict each other."""
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"{self.num_heads} query heads do not share {self.num_kv_heads} key heads evenly")
        if not len(self.windows) == len(self.attention_scales) == self.num_layers:
            raise ValueError(
                f"{len(self.windows)} windows and {len(self.attention_scales)} scales for {self.num_layers} layers"
            )

    @property
    def query_size(self) -> int:
        """Width of all query heads together."""
        return self.num_heads * self.head_size

    @property
    def key_size(self) -> int:
        """Width of all key heads together, and of all value heads."""
        return self.num_kv_heads * self.head_size
