"""`EngineConfig`: what was asked of the engine. None means: choose for me. Torch-free.

What was decided in its place is `EngineInfo`, which the engine reports when it is ready.
"""

from dataclasses import dataclass, field
from typing import Literal

DType = Literal["auto", "bfloat16", "float16", "float32"]
Device = Literal["auto", "cpu", "cuda"]
KernelChoice = Literal["auto", "reference", "fused"]
KVDType = Literal["auto", "fp8", "int8"]
WeightType = Literal["auto", "int8", "int4"]

NULL = "null:"
"""How the names of models without weights begin: see `null_model.py`."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What was asked of the engine. Sizes in bytes, lengths in tokens.

    Each field's `help` is its line in `penstock serve --help`: flags are generated from these fields.
    """

    model: str = field(metadata={"help": "a checkpoint folder, a hub id, 'demo', or 'null:'"})
    revision: str | None = field(default=None, metadata={"help": "branch, tag or commit of the hub repository"})
    dtype: DType = field(default="auto", metadata={"help": "type of the weights and of what is computed"})
    device: Device = field(default="auto", metadata={"help": "where the model runs"})
    kernels: KernelChoice = field(
        default="auto", metadata={"help": "fused Triton kernels, or the reference in torch; auto: fused on a GPU"}
    )
    weights: WeightType = field(
        default="auto", metadata={"help": "type of the linear layers' weights: the model's, or fewer bits with scales"}
    )
    max_model_len: int | None = field(default=None, metadata={"help": "most tokens of prompt and answer together"})
    kv_cache_memory: int | None = field(
        default=None, metadata={"help": "bytes for the KV cache, with a suffix like 512MiB or 4GiB"}
    )
    kv_cache_dtype: KVDType = field(
        default="auto", metadata={"help": "type of the KV cache: the model's, or half as large with scales"}
    )
    block_size: int = field(default=16, metadata={"help": "tokens per KV cache block"})
    max_batch_tokens: int | None = field(default=None, metadata={"help": "token budget of one step"})
    max_rows: int | None = field(default=None, metadata={"help": "most sequences running at once"})
    max_queue: int = field(default=1024, metadata={"help": "requests waiting before new ones get a 429"})
    prefix_caching: bool = field(default=True, metadata={"help": "share the cached blocks of equal prompt starts"})
    batch_invariant: bool | None = field(
        default=None, metadata={"help": "an answer's bits do not depend on what shares its batch or cache"}
    )
    overlap: bool | None = field(
        default=None, metadata={"help": "choose tokens on the device and look at them one step late"}
    )
    cuda_graphs: bool | None = field(
        default=None, metadata={"help": "launch decoding steps as CUDA graphs, recorded at start"}
    )
    threads: int | None = field(default=None, metadata={"help": "CPU threads for the model"})
    plugin: tuple[str, ...] = field(
        default=(),
        metadata={"help": "processors and strategies of your own: a file.py or module, or file.py:Class; repeatable"},
    )


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the engine decided and loaded, told once when it is ready. Sizes in bytes, lengths in tokens."""

    model: str
    folder: str
    architecture: str
    num_parameters: int
    vocab_size: int
    hidden_size: int
    eos_token_ids: tuple[int, ...]
    dtype: str
    dtype_reason: str
    device: str
    kernels: str
    weights: str
    kv_cache_dtype: str
    max_model_len: int
    block_size: int
    num_blocks: int
    kv_cache_bytes: int
    max_batch_tokens: int
    max_rows: int
    max_queue: int
    overlap: bool
    cuda_graphs: bool
    threads: int
    load_seconds: float

    @property
    def num_cache_tokens(self) -> int:
        """Tokens the KV cache holds in all."""
        return self.num_blocks * self.block_size


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The engine's state after a step. Counters only grow; the others are of this moment."""

    num_running: int = 0
    num_waiting: int = 0
    num_blocks: int = 0
    num_blocks_in_use: int = 0
    num_steps: int = 0
    num_preemptions: int = 0
    num_prompt_tokens: int = 0
    num_generated_tokens: int = 0
    num_prefix_query_tokens: int = 0
    num_prefix_hit_tokens: int = 0
    last_step_seconds: float = 0.0
    total_step_seconds: float = 0.0
