"""`/v1/embeddings` replies: the vectors, cut and normalised as asked, as numbers or as base64."""

import base64
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from penstock_server.replies.json import warnings_field


def shaped(raw: Sequence[bytes], dimensions: int, *, normalizes: bool) -> NDArray[np.float32]:
    """The embeddings [len(raw), dimensions]: the first numbers of each, then of length 1 if `normalizes`.

    `raw`: float32 [hidden_size] each, as the engine gives them. A vector of zeros has no direction and stays as it is.
    """
    vectors = np.stack([np.frombuffer(one, np.float32)[:dimensions] for one in raw])
    if not normalizes:
        return vectors
    # In float64: squares of float32 overflow from 2e19 on.
    exact = vectors.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    return (exact / np.where(lengths == 0, 1, lengths)).astype(np.float32)


def embeddings_reply(
    model: str,
    embeddings: NDArray[np.float32],
    encoding_format: Literal["float", "base64"],
    num_prompt_tokens: int,
    warnings: Sequence[str] = (),
) -> bytes:
    """The body of the reply. base64 is that of little-endian float32, and numbers read back to the same float32."""
    shown = _as_base64 if encoding_format == "base64" else _as_numbers
    reply: dict[str, Any] = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": shown(vector)}
            for index, vector in enumerate(embeddings)
        ],
        "model": model,
        "usage": {"prompt_tokens": num_prompt_tokens, "total_tokens": num_prompt_tokens},
        **warnings_field(warnings),
    }
    return orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY)


def _as_numbers(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(vector)  # what orjson can write


def _as_base64(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
