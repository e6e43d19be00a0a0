"""The table of processors by name, and the order of the default chain (transformers' order)."""

from penstock_decoding.processor import Processor
from penstock_decoding.processors.logit_bias import LogitBias
from penstock_decoding.processors.min_p import MinP
from penstock_decoding.processors.min_tokens import MinTokens
from penstock_decoding.processors.penalties import Penalties
from penstock_decoding.processors.temperature import Temperature
from penstock_decoding.processors.top_k import TopK
from penstock_decoding.processors.top_p import TopP

# In the order of the default chain, which flat fields like `temperature` and `top_k` build.
PROCESSORS: dict[str, type[Processor]] = {
    "min_tokens": MinTokens,
    "logit_bias": LogitBias,
    "penalties": Penalties,
    "temperature": Temperature,
    "top_k": TopK,
    "top_p": TopP,
    "min_p": MinP,
}
DEFAULT_ORDER: tuple[str, ...] = tuple(PROCESSORS)
