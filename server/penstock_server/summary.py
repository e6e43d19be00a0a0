"""`summary`: what was decided at start, for the log."""

from penstock_decoding.catalogue import SHIPPED, Catalogue
from penstock_engine.config import EngineInfo
from penstock_server.model import ServedModel
from penstock_server.version import VERSION


def summary(
    info: EngineInfo, model: ServedModel, url: str, catalogue: Catalogue = SHIPPED, num_workers: int = 1
) -> str:
    """One block of lines."""
    full_length = info.num_cache_tokens / info.max_model_len
    weights = f"{info.weights} weights, " if info.weights != info.dtype else ""
    lines = {
        "model": f"{', '.join(model.names)} ({info.architecture}, {_count(info.num_parameters)} parameters)",
        "computes": f"{info.dtype} ({info.dtype_reason}) on {info.device}, {weights}{info.kernels} kernels, "
        f"{info.threads} threads",
        "context": f"{info.max_model_len} tokens",
        "batch": f"up to {info.max_rows} sequences, {info.max_batch_tokens} tokens a step",
        "decoding": ("a step ahead" + ", as CUDA graphs" * info.cuda_graphs) * info.overlap,
        "KV cache": f"{info.num_cache_tokens} tokens, {info.kv_cache_bytes / 2**20:.0f} MiB: "
        f"{full_length:.1f} requests of full length",
        "plug-ins": ", ".join(sorted(name for _, name in catalogue.origins)),
        "chat": "yes" if model.template is not None else "no: the model has no chat template",
        "loaded in": f"{info.load_seconds:.1f} s",
        "API": f"{url}/v1" + f", {num_workers} workers" * (num_workers > 1),
    }
    told = [f"  {name:<10} {text}" for name, text in lines.items() if text]
    return "\n".join([f"Penstock {VERSION}", *told])


def _count(number: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)
