"""`Decoder`: the one decoder-only transformer. What varies between families is in the `ModelSpec`.

It holds weights and nothing else: tokens, positions and cache arrive as arguments, and a forward pass changes only the
cache slots of the batch's own tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from penstock_kernels import Kernels
from penstock_models.batch import ForwardBatch
from penstock_models.kv_cache import KVCache
from penstock_models.rope import RotaryAngles
from penstock_models.spec import ModelSpec, RotaryPositions
from penstock_models.weights import DecoderWeights, LayerWeights, LinearWeights, NormWeights

Angles = tuple[Tensor, Tensor]


class Decoder:
    """A pre-norm transformer with weights."""

    def __init__(self, spec: ModelSpec, weights: DecoderWeights, kernels: Kernels) -> None:
        self.spec = spec
        self._weights = weights
        self._kernels = kernels
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
        weights = self._weights
        residual = F.embedding(batch.token_ids, weights.embedding)
        if weights.positions is not None:
            residual.add_(F.embedding(batch.positions, weights.positions))
        angles = self._angles(batch.positions) if self._angles is not None else None

        # `update` is what the last sublayer computed and the residual stream has yet to receive: each norm adds it.
        update: Tensor | None = None
        for index, layer in enumerate(weights.layers):
            hidden, residual = self._norm(layer.attention_norm, update, residual)
            update = self._attention(index, layer, hidden, angles, batch, cache.layers[index])
            hidden, residual = self._norm(layer.mlp_norm, update, residual)
            update = self._mlp(layer, hidden)

        if batch.logit_rows is not None:
            residual = residual.index_select(0, batch.logit_rows)
            update = update.index_select(0, batch.logit_rows) if update is not None else None
        hidden, _ = self._norm(weights.final_norm, update, residual)
        return self._kernels.logits(hidden, weights.head)

    def _attention(
        self, index: int, layer: LayerWeights, hidden: Tensor, angles: Angles | None, batch: ForwardBatch, cache: Tensor
    ) -> Tensor:
        spec, kernels = self.spec, self._kernels
        qkv = self._linear(layer.qkv, hidden).view(len(hidden), -1, spec.head_size)
        q, kv = qkv.split_with_sizes((spec.num_heads, 2 * spec.num_kv_heads), dim=1)
        kv = kv.view(len(hidden), 2, spec.num_kv_heads, spec.head_size)
        if layer.q_norm is not None and layer.k_norm is not None:
            k = kv.select(1, 0)
            q.copy_(kernels.rms_norm(q, layer.q_norm, spec.norm_eps))
            k.copy_(kernels.rms_norm(k, layer.k_norm, spec.norm_eps))
        if angles is not None:
            # Query and key heads are neighbours and turn together.
            kernels.rotary(qkv.narrow(1, 0, spec.num_heads + spec.num_kv_heads), *angles)
        kernels.write_kv(kv, cache, batch.slot_mapping)
        attended = kernels.paged_attention(q, cache, batch.attention, spec.attention_scales[index], spec.windows[index])
        return self._linear(layer.attention_out, attended.view(len(hidden), -1))

    def _mlp(self, layer: LayerWeights, hidden: Tensor) -> Tensor:
        expanded = self._linear(layer.mlp_in, hidden)
        activate = self._kernels.gated_activate if self.spec.gated_mlp else self._kernels.activate
        return self._linear(layer.mlp_out, activate(expanded, self.spec.activation))

    def _linear(self, weights: LinearWeights, x: Tensor) -> Tensor:
        return self._kernels.linear(x, weights.weight, weights.bias)

    def _norm(self, weights: NormWeights, update: Tensor | None, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Add the update to the residual stream, in place, and normalise: (normalised, residual stream)."""
        x, stream = (residual, None) if update is None else (update, residual)
        if weights.bias is None:
            return self._kernels.rms_norm(x, weights.weight, self.spec.norm_eps, stream), residual
        return self._kernels.layer_norm(x, weights.weight, weights.bias, self.spec.norm_eps, stream), residual
