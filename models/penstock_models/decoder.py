"""`Decoder`: the one decoder-only transformer. What varies between families is in the `ModelSpec`.

It holds weights and nothing else: tokens, positions and cache arrive as arguments, and a forward pass changes only the
cache slots of the batch's own tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from penstock_kernels import Kernels
from penstock_kernels.layer_cache import LayerCache
from penstock_kernels.linear import MlpActivation
from penstock_kernels.paged_attention import AttentionRule
from penstock_kernels.qkv_prepare import Angles, HeadNorms
from penstock_models.batch import ForwardBatch
from penstock_models.kv_cache import KVCache
from penstock_models.rope import RotaryAngles
from penstock_models.spec import ModelSpec, RotaryPositions
from penstock_models.weights import DecoderWeights, LayerWeights, LinearWeights, NormWeights


class Decoder:
    """A pre-norm transformer with weights."""

    def __init__(self, spec: ModelSpec, weights: DecoderWeights, kernels: Kernels) -> None:
        self.spec = spec
        self.kernels = kernels
        self._weights = weights
        self._activation = MlpActivation(spec.activation, spec.gated_mlp)
        self._rules = [
            AttentionRule(scale, window) for scale, window in zip(spec.attention_scales, spec.windows, strict=True)
        ]
        self._angles = (
            RotaryAngles(spec.positions, weights.embedding.device)
            if isinstance(spec.positions, RotaryPositions)
            else None
        )

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and of the cache that `forward` takes."""
        return self._weights.embedding.dtype

    @property
    def device(self) -> torch.device:
        return self._weights.embedding.device

    @property
    def num_parameters(self) -> int:
        """Elements of all weights; a tied head counts once."""
        return self._weights.num_parameters

    @torch.inference_mode()
    def forward(self, batch: ForwardBatch, cache: KVCache) -> Tensor:
        """Run the batch's tokens through the model.

        Writes the keys and values of the batch's tokens to their slots; will not touch any other slot.

        Returns:
            float32 logits [R, vocab_size], contiguous, row i for token batch.logit_rows[i].
        """
        residual = self._layers(batch, cache)
        if batch.logit_rows is not None:
            residual = self.kernels.gather_last(residual, batch.logit_rows)
        return self.logits(self._norm(self._weights.final_norm, residual))

    @torch.inference_mode()
    def hidden_states(self, batch: ForwardBatch, cache: KVCache) -> Tensor:
        """As `forward`, but what the head is given of every token: [T, hidden_size] behind the last norm.

        A row of it gives `logits` the bits that `forward` has for the token, if the kernels are invariant.
        """
        return self._norm(self._weights.final_norm, self._layers(batch, cache))

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """The head: from hidden states [R, hidden_size] behind the last norm to float32 logits [R, vocab_size]."""
        return self.kernels.logits(hidden, self._weights.head)

    def _layers(self, batch: ForwardBatch, cache: KVCache) -> Tensor:
        weights = self._weights
        residual = F.embedding(batch.token_ids, weights.embedding)
        if weights.positions is not None:
            residual.add_(F.embedding(batch.positions, weights.positions))
        angles = self._angles(batch.positions) if self._angles is not None else None
        for index, layer in enumerate(weights.layers):
            hidden = self._norm(layer.attention_norm, residual)
            attended = self._attention(index, layer, hidden, angles, batch, cache.layers[index])
            self._linear(layer.attention_out, attended, residual=residual)
            hidden = self._norm(layer.mlp_norm, residual)
            expanded = self._linear(layer.mlp_in, hidden, activation=self._activation)
            self._linear(layer.mlp_out, expanded, residual=residual)
        return residual

    def _attention(
        self,
        index: int,
        layer: LayerWeights,
        hidden: Tensor,
        angles: Angles | None,
        batch: ForwardBatch,
        cache: LayerCache,
    ) -> Tensor:
        norms = None
        if layer.q_norm is not None and layer.k_norm is not None:
            norms = HeadNorms(layer.q_norm, layer.k_norm, self.spec.norm_eps)
        qkv = self.kernels.linear(hidden, layer.qkv.weight).view(len(hidden), -1, self.spec.head_size)
        q = self.kernels.qkv_prepare(qkv, cache, batch.slot_mapping, bias=layer.qkv.bias, norms=norms, angles=angles)
        return self.kernels.paged_attention(q, cache, batch.attention, self._rules[index]).view(len(hidden), -1)

    def _linear(
        self,
        weights: LinearWeights,
        x: Tensor,
        *,
        activation: MlpActivation | None = None,
        residual: Tensor | None = None,
    ) -> Tensor:
        return self.kernels.linear(x, weights.weight, weights.bias, activation=activation, residual=residual)

    def _norm(self, weights: NormWeights, x: Tensor) -> Tensor:
        if weights.bias is None:
            return self.kernels.rms_norm(x, weights.weight, self.spec.norm_eps)
        return self.kernels.layer_norm(x, weights.weight, weights.bias, self.spec.norm_eps)
