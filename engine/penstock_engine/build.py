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
from penstock_engine.config import EngineConfig, EngineInfo
from penstock_engine.engine import Engine
from penstock_engine.errors import EngineStartError
from penstock_engine.limits import Limits
from penstock_engine.memory import CPU_SHARE, GPU_SHARE, available_cpu_bytes, cache_size
from penstock_engine.model_runner import ModelRunner
from penstock_kernels import Kernels, NoSuchKernels, select_kernels
from penstock_kernels.linear import NotInvariant
from penstock_models.errors import CheckpointError
from penstock_models.hub import HubError, resolve_folder
from penstock_models.kv_cache import KVCache
from penstock_models.loader import LoadedModel, load_checkpoint

# On a CPU 64 rows already make a step compute-bound; on a GPU 256 rows still share one read of the weights.
MAX_ROWS = {"cpu": 64, "cuda": 256}
# A chunk of 512 tokens keeps a CPU's matrix units busy without holding decoding rows up for long.
MAX_BATCH_TOKENS = {"cpu": 512, "cuda": 8192}
# Up to this size on disk, in bytes, weights stay in a CPU's caches, and a pass over them for every 32 prompt tokens
# costs little; the linear layers of a prompt of larger models took 1.3 to 3 times as long (docs/log.md).
SMALL_WEIGHTS = 32 * 2**20
# Attention sums over fewer features than a bf16 matrix tile is deep take routines that depend on the number of rows.
INVARIANT_HEAD_MULTIPLE = 32


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
        folder = resolve_folder(config.model, config.revision)
        model, kernels = _load(config, folder, device)
    except (PluginError, CheckpointError, HubError, NoSuchKernels) as error:
        raise EngineStartError(str(error)) from error
    limits = _limits(config, model, device)
    kv_dtype = _kv_dtype(config, model, device)
    runner = ModelRunner(model.decoder, num_blocks=limits.num_blocks, block_size=limits.block_size, kv_dtype=kv_dtype)
    info = EngineInfo(
        model=config.model,
        folder=str(folder),
        architecture=model.architecture,
        num_parameters=model.num_parameters,
        vocab_size=model.spec.vocab_size,
        eos_token_ids=model.eos_token_ids,
        dtype=model.dtype,
        dtype_reason=model.dtype_reason,
        device=str(device),
        kernels=kernels.name,
        kv_cache_dtype=str(kv_dtype).removeprefix("torch."),
        max_model_len=limits.max_model_len,
        block_size=limits.block_size,
        num_blocks=limits.num_blocks,
        kv_cache_bytes=limits.num_blocks * KVCache.bytes_per_block(model.spec, limits.block_size, kv_dtype),
        max_batch_tokens=limits.max_batch_tokens,
        max_rows=limits.max_rows,
        max_queue=limits.max_queue,
        threads=threads,
        load_seconds=time.perf_counter() - started,
    )
    try:
        engine = Engine(
            runner, limits, prefix_caching=config.prefix_caching, catalogue=catalogue, vocabulary=vocabulary
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
            kernels = select_kernels(config.kernels, device, invariant=True)
            model = load_checkpoint(folder, dtype=config.dtype, device=device, kernels=kernels)
            if device.type == "cpu" and model.spec.head_size % INVARIANT_HEAD_MULTIPLE:
                raise NotInvariant(f"heads of {model.spec.head_size} features")
            return model, kernels
        except NotInvariant as error:
            if config.batch_invariant:
                raise EngineStartError(f"batch_invariant is not possible here for {error}") from error
    kernels = select_kernels(config.kernels, device)
    return load_checkpoint(folder, dtype=config.dtype, device=device, kernels=kernels), kernels


def _is_small(folder: Path) -> bool:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors")) <= SMALL_WEIGHTS


def _device(config: EngineConfig) -> torch.device:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise EngineStartError("device is cuda, but torch finds no CUDA device here")
    if config.device != "auto":
        return torch.device(config.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _limits(config: EngineConfig, model: LoadedModel, device: torch.device) -> Limits:
    max_rows = config.max_rows or MAX_ROWS[device.type]
    max_batch_tokens = config.max_batch_tokens or max(MAX_BATCH_TOKENS[device.type], max_rows)
    if max_batch_tokens < max_rows:
        raise EngineStartError(f"max_batch_tokens is {max_batch_tokens}, less than the {max_rows} rows that decode")
    is_cpu = device.type == "cpu"
    size = cache_size(
        bytes_per_block=KVCache.bytes_per_block(model.spec, config.block_size, _kv_dtype(config, model, device)),
        block_size=config.block_size,
        free_bytes=available_cpu_bytes() if is_cpu else torch.cuda.mem_get_info(device)[0],
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
    return {"auto": model.decoder.dtype, "fp8": torch.float8_e4m3fn, "int8": torch.int8}[config.kv_cache_dtype]
