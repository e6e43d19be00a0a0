"""Builds an engine from its configuration: loads the model, decides what was left open, and reports what it decided."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from penstock_decoding.errors import PluginError
from penstock_decoding.grammar.vocabulary import Vocabulary
from penstock_decoding.plugins import load_plugins
from penstock_engine.config import NULL, EngineConfig, EngineInfo
from penstock_engine.engine import Engine
from penstock_engine.errors import EngineStartError
from penstock_engine.graph_runner import GraphRunner
from penstock_engine.limits import Limits
from penstock_engine.memory import CPU_SHARE, GPU_SHARE, available_cpu_bytes, cache_size
from penstock_engine.model_runner import ModelRunner
from penstock_engine.null_model import build_null_engine
from penstock_kernels import Kernels, NoSuchKernels, select_kernels
from penstock_kernels.linear import NotInvariant
from penstock_models.errors import CheckpointError
from penstock_models.hub import HubError, resolve_folder
from penstock_models.kv_cache import KVCache
from penstock_models.loader import LoadedModel, load_checkpoint
from penstock_models.spec import ModelSpec

# On a CPU 64 rows already make a step compute-bound; on a GPU 256 rows still share one read of the weights.
MAX_ROWS = {"cpu": 64, "cuda": 256}
# A chunk of 512 tokens keeps a CPU's matrix units busy without holding decoding rows up for long.
MAX_BATCH_TOKENS = {"cpu": 512, "cuda": 8192}
# Up to this size on disk, in bytes, weights stay in a CPU's caches, and a pass over them for every 32 prompt tokens
# costs little; the linear layers of a prompt of larger models took 1.3 to 3 times as long (docs/log.md).
SMALL_WEIGHTS = 32 * 2**20
# Attention sums over fewer features than a bf16 matrix tile is deep take routines that depend on the number of rows.
INVARIANT_HEAD_MULTIPLE = 32
# What steps on a GPU need beside weights and cache. Estimated, not measured: attention's workspaces (2^28 and 2^26 at
# most), cuBLAS's (2^26), and the rest for what the driver keeps of recorded steps.
GPU_STEP_BYTES = 2**30
# Arrays of 4 bytes for each row and token of the vocabulary: logits, a copy of them, lists of candidates, sorted scores
# with their ids, and what sequences have used.
NUM_SCORE_ARRAYS = 8


def build_engine(
    config: EngineConfig, plugins: Sequence[type[Any] | str] = (), vocabulary: Vocabulary | None = None
) -> tuple[Engine, EngineInfo]:
    """Load the model and size everything.

    `plugins`: more of them, beside the configuration's. `vocabulary`: as for `Engine`.

    Raises:
        EngineStartError: says what could not be done, fit for the person who asked.
    """
    started = time.perf_counter()
    _check(config)
    device = _device(config)
    threads = config.threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    try:
        catalogue = load_plugins((*config.plugin, *plugins))
        if config.model.startswith(NULL):
            return build_null_engine(config, catalogue, vocabulary)
        folder = resolve_folder(config.model, config.revision)
        model, kernels = _load(config, folder, device)
    except (PluginError, CheckpointError, HubError, NoSuchKernels) as error:
        raise EngineStartError(str(error)) from error
    limits = _limits(config, model, device)
    kv_dtype = _kv_dtype(config, model, device)
    overlap, cuda_graphs = _launching(config, kernels, device)
    runner = _runner(model, limits, kv_dtype, overlap=overlap, cuda_graphs=cuda_graphs)
    info = EngineInfo(
        model=config.model,
        folder=str(folder),
        architecture=model.architecture,
        num_parameters=model.num_parameters,
        vocab_size=model.spec.vocab_size,
        hidden_size=model.spec.hidden_size,
        eos_token_ids=model.eos_token_ids,
        dtype=model.dtype,
        dtype_reason=model.dtype_reason,
        device=str(device),
        kernels=kernels.name,
        weights=model.dtype if config.weights == "auto" else config.weights,
        kv_cache_dtype=str(kv_dtype).removeprefix("torch."),
        max_model_len=limits.max_model_len,
        block_size=limits.block_size,
        num_blocks=limits.num_blocks,
        kv_cache_bytes=limits.num_blocks * KVCache.bytes_per_block(model.spec, limits.block_size, kv_dtype),
        max_batch_tokens=limits.max_batch_tokens,
        max_rows=limits.max_rows,
        max_queue=limits.max_queue,
        overlap=overlap,
        cuda_graphs=cuda_graphs,
        threads=threads,
        load_seconds=time.perf_counter() - started,
    )
    try:
        engine = Engine(
            runner,
            limits,
            prefix_caching=config.prefix_caching,
            catalogue=catalogue,
            vocabulary=vocabulary,
            kernels=kernels if device.type == "cuda" else None,
        )
    except PluginError as error:
        raise EngineStartError(str(error)) from error
    return engine, info


def _check(config: EngineConfig) -> None:
    for name in (
        "max_model_len",
        "kv_cache_memory",
        "block_size",
        "max_batch_tokens",
        "max_rows",
        "max_queue",
        "threads",
    ):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise EngineStartError(f"{name} is {value}, but must be at least 1")


def _load(config: EngineConfig, folder: Path, device: torch.device) -> tuple[LoadedModel, Kernels]:
    """The model, with invariant kernels if asked for, or if nothing was asked and they are as good as free."""
    is_free = device.type == "cpu" and config.kernels != "fused" and _is_small(folder)
    if config.batch_invariant or (config.batch_invariant is None and is_free):
        try:
            kernels = select_kernels(config.kernels, device, invariant=True, weights=config.weights)
            model = load_checkpoint(folder, dtype=config.dtype, device=device, kernels=kernels)
            if device.type == "cpu" and model.spec.head_size % INVARIANT_HEAD_MULTIPLE:
                raise NotInvariant(f"heads of {model.spec.head_size} features")
            return model, kernels
        except NotInvariant as error:
            if config.batch_invariant:
                raise EngineStartError(f"batch_invariant is not possible here for {error}") from error
    kernels = select_kernels(config.kernels, device, weights=config.weights)
    return load_checkpoint(folder, dtype=config.dtype, device=device, kernels=kernels), kernels


def _is_small(folder: Path) -> bool:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors")) <= SMALL_WEIGHTS


def _device(config: EngineConfig) -> torch.device:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise EngineStartError("device is cuda, but torch finds no CUDA device here")
    if config.device != "auto":
        return torch.device(config.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _launching(config: EngineConfig, kernels: Kernels, device: torch.device) -> tuple[bool, bool]:
    """Whether decoding steps are launched ahead, and whether they are CUDA graphs."""
    is_fused = kernels.name.startswith("fused")
    # The kernels find a token's block by shifting its position.
    has_shift = config.block_size.bit_count() == 1
    overlap = config.overlap if config.overlap is not None else device.type == "cuda" and is_fused and has_shift
    if overlap and not has_shift:
        raise EngineStartError(f"overlap needs a block_size that is a power of two, and it is {config.block_size}")
    cuda_graphs = config.cuda_graphs if config.cuda_graphs is not None else overlap and is_fused
    if cuda_graphs and not overlap:
        raise EngineStartError("cuda_graphs are of the steps that overlap launches, which is off")
    if cuda_graphs and (device.type != "cuda" or not is_fused):
        raise EngineStartError(f"cuda_graphs need a GPU and fused kernels; these are {kernels.name} on {device.type}")
    return overlap, cuda_graphs


def _runner(
    model: LoadedModel, limits: Limits, kv_dtype: torch.dtype, *, overlap: bool, cuda_graphs: bool
) -> ModelRunner | GraphRunner:
    if not overlap:
        return ModelRunner(model.decoder, num_blocks=limits.num_blocks, block_size=limits.block_size, kv_dtype=kv_dtype)
    runner = GraphRunner(
        model.decoder,
        num_blocks=limits.num_blocks,
        block_size=limits.block_size,
        max_rows=limits.max_rows,
        max_context=limits.max_model_len,
        kv_dtype=kv_dtype,
        cuda_graphs=cuda_graphs,
    )
    if cuda_graphs:
        try:
            runner.record()
        except Exception as error:
            raise EngineStartError(
                f"the decoding steps could not be recorded as CUDA graphs: {error}; --no-cuda-graphs does without them"
            ) from error
    return runner


def gpu_bytes_for_steps(spec: ModelSpec, dtype: torch.dtype, *, max_rows: int, max_batch_tokens: int) -> int:
    """Memory that a step takes while it is computed, or recorded as a CUDA graph: rather too much than too little."""
    # The residual, what is normalised, queries, keys and values, what was attended, both halves of the MLP and their
    # product; some of them twice, since what was freed may not fit what is asked for next.
    features = 4 * spec.hidden_size + 2 * (spec.query_size + spec.key_size) + 3 * spec.mlp_size
    activations = max_batch_tokens * features * dtype.itemsize
    scores = max_rows * spec.vocab_size * torch.float32.itemsize * NUM_SCORE_ARRAYS
    return GPU_STEP_BYTES + activations + scores


def _free_gpu_bytes(model: LoadedModel, device: torch.device, max_rows: int, max_batch_tokens: int) -> int:
    """Of which the cache may have GPU_SHARE: as much as is free, or less where a step needs more than what is left."""
    torch.cuda.empty_cache()  # what loading has freed and torch keeps
    free = torch.cuda.mem_get_info(device)[0]
    needed = gpu_bytes_for_steps(model.spec, model.decoder.dtype, max_rows=max_rows, max_batch_tokens=max_batch_tokens)
    return min(free, max(int((free - needed) / GPU_SHARE), 0))


def _limits(config: EngineConfig, model: LoadedModel, device: torch.device) -> Limits:
    max_rows = config.max_rows or MAX_ROWS[device.type]
    max_batch_tokens = config.max_batch_tokens or max(MAX_BATCH_TOKENS[device.type], max_rows)
    if max_batch_tokens < max_rows:
        raise EngineStartError(f"max_batch_tokens is {max_batch_tokens}, less than the {max_rows} rows that decode")
    is_cpu = device.type == "cpu"
    size = cache_size(
        bytes_per_block=KVCache.bytes_per_block(model.spec, config.block_size, _kv_dtype(config, model, device)),
        block_size=config.block_size,
        free_bytes=available_cpu_bytes() if is_cpu else _free_gpu_bytes(model, device, max_rows, max_batch_tokens),
        share=CPU_SHARE if is_cpu else GPU_SHARE,
        asked_bytes=config.kv_cache_memory,
        max_positions=model.max_positions,
        asked_len=config.max_model_len,
        max_rows=max_rows,
    )
    return Limits(
        max_model_len=size.max_model_len,
        max_rows=max_rows,
        max_batch_tokens=max_batch_tokens,
        max_queue=config.max_queue,
        num_blocks=size.num_blocks,
        block_size=config.block_size,
        vocab_size=model.spec.vocab_size,
    )


def _kv_dtype(config: EngineConfig, model: LoadedModel, device: torch.device) -> torch.dtype:
    if config.kv_cache_dtype == "fp8" and device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 9):
        raise EngineStartError("kv_cache_dtype fp8 needs a GPU of compute capability 8.9 or newer; int8 does not")
    is_fused = device.type == "cuda" and config.kernels != "reference"
    if config.kv_cache_dtype != "auto" and is_fused and model.decoder.dtype == torch.float32:
        raise EngineStartError(
            f"kv_cache_dtype {config.kv_cache_dtype} on a GPU needs the dtype bfloat16 or float16, not float32"
        )
    return {"auto": model.decoder.dtype, "fp8": torch.float8_e4m3fn, "int8": torch.int8}[config.kv_cache_dtype]
