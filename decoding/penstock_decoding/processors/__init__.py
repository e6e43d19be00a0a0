"""The table of processors by name, and the order of the default chain (transformers' order)."""

from penstock_decoding.processor import Processor
from penstock_decoding.processors.adaptive_temperature import AdaptiveTemperature
from penstock_decoding.processors.allowed_sequences import AllowedSequences
from penstock_decoding.processors.allowed_tokens import AllowedTokens
from penstock_decoding.processors.bad_words import BadWords
from penstock_decoding.processors.dry import Dry
from penstock_decoding.processors.dynamic_temperature import DynamicTemperature
from penstock_decoding.processors.epsilon import Epsilon
from penstock_decoding.processors.eta import Eta
from penstock_decoding.processors.force_end import ForceEnd
from penstock_decoding.processors.grammar import Grammar
from penstock_decoding.processors.logit_bias import LogitBias
from penstock_decoding.processors.min_p import MinP
from penstock_decoding.processors.min_tokens import MinTokens
from penstock_decoding.processors.mirostat import Mirostat
from penstock_decoding.processors.no_repeat_ngram import NoRepeatNgram
from penstock_decoding.processors.penalties import Penalties
from penstock_decoding.processors.temperature import Temperature
from penstock_decoding.processors.top_h import TopH
from penstock_decoding.processors.top_k import TopK
from penstock_decoding.processors.top_n_sigma import TopNSigma
from penstock_decoding.processors.top_p import TopP
from penstock_decoding.processors.typical import Typical
from penstock_decoding.processors.xtc import Xtc

# In the order of the default chain, which flat fields like `temperature` and `top_k` build.
PROCESSORS: dict[str, type[Processor]] = {
    "grammar": Grammar,
    "allowed_sequences": AllowedSequences,
    "bad_words": BadWords,
    "allowed_tokens": AllowedTokens,
    "no_repeat_ngram": NoRepeatNgram,
    "min_tokens": MinTokens,
    "force_end": ForceEnd,
    "logit_bias": LogitBias,
    "penalties": Penalties,
    "dry": Dry,
    "temperature": Temperature,
    "dynamic_temperature": DynamicTemperature,
    "adaptive_temperature": AdaptiveTemperature,
    "top_n_sigma": TopNSigma,
    "top_h": TopH,
    "top_k": TopK,
    "top_p": TopP,
    "min_p": MinP,
    "typical": Typical,
    "epsilon": Epsilon,
    "eta": Eta,
    "xtc": Xtc,
    "mirostat": Mirostat,
}
DEFAULT_ORDER: tuple[str, ...] = tuple(PROCESSORS)
