"""Mirostat: truncation that a control loop steers, so that the tokens surprise by `target` bits on average.

Both versions begin with mu = 2 * target and, when a token of surprise S was appended, go on with mu - rate * (S -
target). Version 2 keeps the tokens whose surprise is at most mu. Version 1 keeps the k likeliest, with k from mu by
Zipf's law, whose exponent it fits to the 100 likeliest tokens. The likeliest token always stays, and so do tokens tied
with the last one that does.

Source: Basu, Ramachandran, Keskar, Varshney, "Mirostat: A Neural Text Decoding Algorithm that Directly Controls
Perplexity" (2021). As in llama.cpp, S is measured after truncation, in the distribution that is drawn from.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask, Row
from penstock_decoding.processors.surprise_control import SurpriseControl, Surprises
from penstock_decoding.tensors import RowSelection, float_tensor

if TYPE_CHECKING:
    from torch import Tensor

NUM_FITTED = 100  # the paper's m
FIRST_LOOK = 256  # as for top-p: selecting this many is mostly enough and much cheaper than sorting a vocabulary


@dataclass(frozen=True, slots=True)
class MirostatParams:
    """`version`: 1 or 2; 0: off. `target`: tau, in bits, from 0 to 20; `rate`: eta, from 0 to 1."""

    version: int = field(default=2, metadata={"minimum": 0, "maximum": 2})
    target: float = field(default=5.0, metadata={"minimum": 0, "maximum": 20})
    rate: float = field(default=0.1, metadata={"minimum": 0, "maximum": 1})

    def __post_init__(self) -> None:
        if self.version not in (0, 1, 2):
            raise ParameterError("version", "must be 1 or 2, or 0 for none")
        if not 0 <= self.target <= 20:
            raise ParameterError("target", "must be between 0 and 20 bits")
        if not 0 <= self.rate <= 1:
            raise ParameterError("rate", "must be between 0 and 1")


class Mirostat:
    """Keeps each sequence's surprise near its target. Remembers by slot how that went."""

    Params = MirostatParams

    def __init__(self) -> None:
        self._controls: dict[int, SurpriseControl] = {}

    def plan(self, asks: Sequence[Ask[MirostatParams]]) -> "MirostatPlan | None":
        busy = [ask for ask in asks if ask.params.version]
        if not busy:
            return None
        return MirostatPlan([(ask, self._control_of(ask)) for ask in busy])

    def _control_of(self, ask: Ask[MirostatParams]) -> SurpriseControl:
        control = self._controls.get(ask.row.slot)
        if control is None:
            control = SurpriseControl(len(ask.row.output), ask.params.target, ask.params.rate)
            self._controls[ask.row.slot] = control
        return control

    def fork(self, source: int, target: int) -> None:
        if source in self._controls:
            self._controls[target] = self._controls[source].copy()

    def rollback(self, slot: int, num_kept: int) -> None:
        if slot in self._controls and not self._controls[slot].rollback(num_kept):
            del self._controls[slot]

    def release(self, slot: int) -> None:
        self._controls.pop(slot, None)


class MirostatPlan:
    """One mu a row; the rows of each version together."""

    def __init__(self, parts: "Sequence[tuple[Ask[MirostatParams], SurpriseControl]]") -> None:
        self._by_version = {
            version: [(ask.row, control) for ask, control in parts if ask.params.version == version]
            for version in (1, 2)
        }
        self._mus = {ask.row.index: control.catch_up(ask.row.output) for ask, control in parts}

    def apply(self, scores: "Tensor") -> None:
        for version, parts in self._by_version.items():
            if not parts:
                continue
            rows = RowSelection([row.index for row, _ in parts])
            values = rows.take(scores)
            mus = float_tensor(scores, [self._mus[row.index] for row, _ in parts])[:, None]
            floor = _floor_by_rank(values, mus) if version == 1 else _floor_by_surprise(values, mus)
            values.masked_fill_(values < floor, float("-inf"))
            rows.put(scores, values)
            _offer(parts, values)


def _floor_by_surprise(values: "Tensor", mus: "Tensor") -> "Tensor":
    """The lowest score that stays in version 2, [rows, 1]."""
    best = values.amax(-1, keepdim=True)
    # Not logsumexp: its sum is split among threads when the rows are few, so it rounds by what shares the batch.
    total = best - values.log_softmax(-1).amax(-1, keepdim=True)
    return best.minimum(total - mus * math.log(2))


def _floor_by_rank(values: "Tensor", mus: "Tensor") -> "Tensor":
    """The lowest score that stays in version 1, [rows, 1]."""
    vocab_size = values.shape[-1]
    likeliest = values.topk(min(FIRST_LOOK, vocab_size), dim=-1).values
    last = _ranks_kept(likeliest[:, :NUM_FITTED].double(), mus.double(), vocab_size) - 1
    floor = likeliest.gather(-1, last.clamp(max=likeliest.shape[-1] - 1))
    is_wide = (last >= FIRST_LOOK).squeeze(-1)
    # Reading this flag costs nothing on a CPU. On a GPU it is a host synchronisation, which a fused kernel avoids.
    if bool(is_wide.any()):
        wide = is_wide.nonzero().squeeze(-1)
        floor[wide] = values[wide].sort(dim=-1, descending=True).values.gather(-1, last[wide])
    return floor


def _ranks_kept(likeliest: "Tensor", mus: "Tensor", vocab_size: int) -> "Tensor":
    """Version 1's k, [rows, 1] int64, from the likeliest scores in descending order [rows, at most 100].

    With p ~ rank ** -s, the least squares fit of s is sum(t * b) / sum(t * t) with t = log((i + 1) / i) and
    b = log(p_i / p_{i+1}), and k = (2 ** mu * (s - 1) / (1 - vocab_size ** (1 - s))) ** (1 / s).
    """
    ranks = np.arange(1, likeliest.shape[-1], dtype=np.float64)
    steps = likeliest.new_tensor(np.log((ranks + 1) / ranks))  # [at most 99]
    falls = -likeliest.diff(dim=-1)
    is_fall = falls.isfinite()  # an excluded token has no rank
    exponent = (falls.masked_fill(~is_fall, 0.0) * steps).sum(-1, keepdim=True)
    exponent /= (is_fall * steps**2).sum(-1, keepdim=True)
    excess, log_size = exponent - 1, math.log(vocab_size)
    # (s - 1) / (1 - N ** (1 - s)), which tends to 1 / log N as s tends to 1.
    ratio = -excess / (-excess * log_size).expm1()
    ratio = ratio.where(excess.abs() > 1e-9, 1 / max(log_size, 1e-9))
    log_k = (ratio.log() + mus * math.log(2)) / exponent
    # Nothing to fit where only one token is left, and an exponent of 0 where all are alike: NaN or infinity.
    return log_k.nan_to_num_(0.0).clamp_(0.0, 700.0).exp().clamp_(max=vocab_size).long()


def _offer(parts: "Sequence[tuple[Row, SurpriseControl]]", values: "Tensor") -> None:
    """Leave the surprise of every token that is left with its row's control.

    What is left is little where it matters: 2 ** mu tokens at most in version 2.
    """
    is_left = values > float("-inf")
    tokens = is_left.nonzero()[:, 1].cpu().numpy()
    bits = (values.log_softmax(-1)[is_left] / -math.log(2)).cpu().numpy()
    ends = np.cumsum(is_left.sum(-1).cpu().numpy())[:-1]
    for (row, control), own_tokens, own_bits in zip(parts, np.split(tokens, ends), np.split(bits, ends), strict=True):
        # Copies: a view would keep the whole batch's arrays for as long as its slowest sequence rests.
        control.offer(len(row.output), Surprises(own_tokens.copy(), own_bits.copy()))
