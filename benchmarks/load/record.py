"""The result as JSON values: what was asked, what each load gave, and what the plots need.

Seconds unless a name says `ms`; the times of requests count from their load's start.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from quiet import QUIET

from load.answer import Answer
from load.loads import load_record
from load.measure import Measurement
from load.prepare import Prepared
from load.settings import Settings

# More bars than this cannot be told apart in a picture.
MOST_BARS = 200
_NUM_BUCKETS = 100


def result_record(
    settings: Settings, prepared: Prepared, measurements: Sequence[Measurement], foreign_load: float | None = None
) -> dict[str, Any]:
    """The whole result of a run. `is_partial`: it was stopped before its end.

    `foreign_load`: processors that neither client nor server kept busy; None where the server is not ours.
    """
    return {
        "settings": _settings_record(settings, prepared),
        "is_partial": any(measurement.is_interrupted for measurement in measurements)
        or len(measurements) < len(settings.loads),
        "foreign_load": _rounded(foreign_load),
        "is_quiet": None if foreign_load is None else foreign_load <= QUIET,
        "client_is_limit": any(measurement.client_limits for measurement in measurements),
        "loads": [measurement_record(measurement, settings.saves_requests) for measurement in measurements],
    }


def measurement_record(measurement: Measurement, saves_requests: bool) -> dict[str, Any]:
    """One load's figures, its client's, and its timeline."""
    record: dict[str, Any] = {
        "load": load_record(measurement.load),
        "figures": figures_record(measurement),
        "client": {
            "is_limit": bool(measurement.client_limits),
            "limits": list(measurement.client_limits),
            "processes": [_rounded(asdict(client)) for client in measurement.clients],
        },
        "timeline": _timeline(measurement),
    }
    if saves_requests:
        record["requests"] = [_request_record(answer, measurement.start) for answer in measurement.answers]
    return record


def figures_record(measurement: Measurement) -> dict[str, Any]:
    """The figures under their own names; the four latencies in milliseconds."""
    figures: dict[str, Any] = _rounded(asdict(measurement.figures))
    return figures


def _settings_record(settings: Settings, prepared: Prepared) -> dict[str, Any]:
    """What was asked for, without keys, paths and addresses."""
    prompts = settings.prompts
    return {
        "serves_itself": settings.server.base is None,
        "served": None if settings.server.base else Path(settings.server.serve).name,
        "serve_flags": list(settings.server.serve_flags),
        "model": prepared.target.model,
        "endpoint": settings.server.endpoint,
        "max_model_len": prepared.model_len,
        "prompts": prompts.kind,
        "prompt_form": prepared.prompt_form,
        **asdict(prompts.lengths),
        "prefix_len": prompts.prefix_len if prompts.kind == "shared-prefix" else None,
        "num_prefixes": prompts.num_prefixes if prompts.kind == "shared-prefix" else None,
        "vocab_size": prompts.vocab_size if prepared.prompt_form == "ids" else None,
        "seed": prompts.seed,
        "num_requests": settings.num_requests,
        "duration": settings.duration,
        "warmup": settings.warmup,
        "timeout": settings.timeout,
        "ignore_eos": settings.ignore_eos,
        "fields": dict(settings.fields),
        "goodput_limits_ms": dict(settings.limits),
    }


def _timeline(measurement: Measurement) -> dict[str, Any]:
    """Some requests as bars, and over the whole load the tokens per second and the requests under way."""
    answers, start = measurement.answers, measurement.start
    shown = sorted(answers, key=lambda answer: answer.sent)
    shown = shown[:: max(1, math.ceil(len(shown) / MOST_BARS))]
    width = max(measurement.figures.duration / _NUM_BUCKETS, 0.01)
    edges = np.arange(math.ceil(measurement.figures.duration / width) + 1) * width
    chunks = [time - start for answer in answers for time in answer.chunk_times]
    tokens, _ = np.histogram(chunks, edges) if len(edges) > 1 else (np.zeros(0), edges)
    sent = np.sort([answer.sent - start for answer in answers])
    ended = np.sort([answer.finished - start for answer in answers])
    middles = edges[:-1] + width / 2
    under_way = np.searchsorted(sent, middles, "right") - np.searchsorted(ended, middles, "right")
    return {
        "num_requests": len(answers),
        "arrived": [_since(start, answer.arrived) for answer in shown],
        "sent": [_since(start, answer.sent) for answer in shown],
        "first_token": [_since(start, answer.chunk_times[0]) if answer.chunk_times else None for answer in shown],
        "finished": [_since(start, answer.finished) for answer in shown],
        "failed": [answer.failure is not None for answer in shown],
        "bucket_seconds": round(width, 6),
        "chunks_per_second": [round(float(count) / width, 1) for count in tokens],
        "under_way": [int(count) for count in under_way],
    }


def _request_record(answer: Answer, start: float) -> dict[str, Any]:
    return {
        "number": answer.index,
        "arrived": _since(start, answer.arrived),
        "sent": _since(start, answer.sent),
        "finished": _since(start, answer.finished),
        "chunks": " ".join(f"{time - start:.6f}" for time in answer.chunk_times),
        "num_prompt_tokens": answer.num_prompt_tokens,
        "num_output_tokens": answer.num_output_tokens,
        "failure": None if answer.failure is None else asdict(answer.failure),
    }


def _since(start: float, time: float) -> float:
    return round(time - start, 6)


def _rounded(value: Any) -> Any:
    """Floats with six decimals: what comes after is noise."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, (list, tuple)) else value
