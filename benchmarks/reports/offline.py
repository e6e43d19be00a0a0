"""Section of `offline.py`: `LLM` in process against transformers."""

from pathlib import Path

from matplotlib.axes import Axes

from reports.drawing import FAINT, OTHER, OURS, new_figure, plain, save
from reports.record import Record
from reports.section import Picture, Section, bullets, provenance, ratio, several, table

_OURS = "LLM"


def render(record: Record) -> Section:
    settings, summary = record.part("settings"), record.part("summary")
    bounds = f"{settings.count('shortest')} to {settings.count('longest')}"
    name = record.source.stem
    return Section(
        "Offline: LLM beside transformers",
        [
            f"`LLM` in process, without HTTP, against transformers' `generate`, one prompt at a time and in padded"
            f" batches, and its continuous batching. {_checkpoint(record)}, {settings.count('threads')} threads each,"
            f" greedy, the same prompts of token ids and the same lengths; each side in a process of its own, in"
            f" alternation, {several(settings.count('rounds'), 'round')}. Measured by `{_command(settings)}`.",
            f"**Throughput**: {settings.count('prompts')} prompts of {bounds} tokens with answers of {bounds} tokens,"
            f" at most {settings.count('batch')} computed together; `generate` alone answers"
            f" {settings.count('prompts_alone')} of them.",
            _throughput(summary.part("throughput")),
            f"**Latency**: one prompt of {settings.count('latency_prompt_length')} tokens at a time, answers of"
            f" {settings.count('latency_answer_length')}. The first token's time is that of a request for one token;"
            f" the time per token is what the others took, each.",
            _latency(summary.part("latency")),
            f"**Memory** of each process at its peak, above what it held after a tiny checkpoint. `LLM` and continuous"
            f" batching have room for {_room(record) / 1e6:.0f} MB of keys and values.",
            _memory(summary),
            bullets(
                [
                    f"Ratios say how many times as fast as a side `{_OURS}` is: the median of the rounds, and in"
                    f" parentheses the least and the most.",
                    f"The memory floor is what reading the {record.number('weight_bytes') / 1e6:.0f} MB of weights and"
                    f" the keys and values once per step would take at"
                    f" {record.number('read_bandwidth') / 1e9:.1f} GB/s, measured in the same run.",
                    f"All sides gave the same {record.count('num_tokens_checked')} tokens on a tiny checkpoint in"
                    f" float32 before anything was measured.",
                    *_waiting(record),
                    *(f"Not available: {side}: {reason}." for side, reason in _missing(record)),
                    provenance(record),
                ]
            ),
        ],
        [
            Picture(
                f"{name}.png",
                "Bars: tokens per second, milliseconds per token and peak memory of each side",
                lambda path: _draw(record, path),
            )
        ],
    )


def _checkpoint(record: Record) -> str:
    name = record.part("settings").text("checkpoint")
    what = "The demo model" if name == "demo" else f"Shape {name} with random weights"
    return f"{what} in bf16 ({record.number('num_parameters') / 1e6:.0f}M parameters)"


def _room(record: Record) -> float:
    """Bytes that the sides which set keys and values aside beforehand have for them."""
    tokens = record.part("sides").part(_OURS).count("cache_tokens")
    return tokens * record.number("kv_bytes_per_token")


def _command(settings: Record) -> str:
    name = settings.text("checkpoint")
    words = ["python benchmarks/offline.py", "--demo" if name == "demo" else f"--shape {name}"]
    words += [f"--{flag} {settings.count(flag)}" for flag in ("rounds", "prompts", "batch", "threads")]
    return " ".join(words + (["--quick"] if settings.flag("is_quick") else []))


def _throughput(throughput: Record) -> str:
    rows = []
    for name, side in throughput.named_parts("sides"):
        rate = side.part("tokens_per_second")
        spread = f"{rate.number('median'):.1f} ({rate.number('min'):.1f} to {rate.number('max'):.1f})"
        rows.append([name, spread, _ratio(side, "ratio"), f"{side.number('share_of_floor'):.0%}"])
    return table(["side", "tokens/s (min to max)", "LLM, times as fast", "share of memory floor"], rows)


def _latency(latency: Record) -> str:
    rows = [
        [
            name,
            _milliseconds(side.part("time_to_first_token")),
            _ratio(side, "first_token_ratio"),
            _milliseconds(side.part("time_per_token")),
            _ratio(side, "per_token_ratio"),
            f"{side.number('share_of_floor'):.0%}",
        ]
        for name, side in latency.named_parts("sides")
    ]
    by = "LLM, times as fast"
    return table(["side", "first token ms (min to max)", by, "per token ms (min to max)", by, "share of floor"], rows)


def _memory(summary: Record) -> str:
    rows = [
        [
            name,
            f"{side.number('baseline') / 1e6:.0f} MB",
            f"{side.number('peak') / 1e6:.0f} MB",
            f"{side.number('weights_above'):.2f}x",
        ]
        for name, side in summary.named_parts("memory")
    ]
    return table(["side", "before loading", "peak", "difference, in weights"], rows)


def _milliseconds(spread: Record) -> str:
    median, least, most = (1e3 * spread.number(name) for name in ("median", "min", "max"))
    return f"{median:.1f} ({least:.1f} to {most:.1f})"


def _ratio(side: Record, name: str) -> str:
    return ratio(side.part(name)) if side.has(name) else ""


def _waiting(record: Record) -> list[str]:
    """How each side's threads wait; where it was tried, it is the fastest way."""
    policies = [f"{side.text('wait_policy')} ({name})" for name, side in record.named_parts("sides")]
    chosen = "as they come" if record.part("settings").flag("is_quick") else "the fastest for each here"
    return [f"OpenMP's threads wait by these policies, {chosen}: {', '.join(policies)}."]


def _missing(record: Record) -> list[tuple[str, str]]:
    missing = record.part("not_available")
    return [(side, missing.text(side)) for side in missing.value]


def _draw(record: Record, path: Path) -> None:
    summary = record.part("summary")
    throughput = list(summary.part("throughput").named_parts("sides"))
    latency = list(summary.part("latency").named_parts("sides"))
    memory = list(summary.named_parts("memory"))
    figure = new_figure(11, 3)
    left, middle, right = figure.subplots(1, 3)
    _bars(left, [(name, side.part("tokens_per_second"), 1.0) for name, side in throughput], "tokens/s, more is better")
    floor = throughput[0][1].number("floor_tokens_per_second")
    left.set_title(f"throughput (memory floor: {floor:.0f})", fontsize=10)
    _bars(middle, [(name, side.part("time_per_token"), 1e3) for name, side in latency], "ms per token, less is better")
    floor = summary.part("latency").number("floor_tokens_per_second")
    middle.axvline(1e3 / floor, color=FAINT, linestyle="--")
    middle.set_title(f"latency (memory floor: {1e3 / floor:.1f})", fontsize=10)
    names = [name for name, _ in memory]
    above = [side.number("weights_above") for _, side in memory]
    bars = right.barh(names, above, 0.6, color=[OURS if name == _OURS else OTHER for name in names])
    right.bar_label(bars, fmt="%.2f", padding=4, fontsize=8)
    right.margins(x=0.15)
    right.axvline(1.0, color=FAINT, linestyle="--")
    right.set_xlabel("in weights, less is better")
    right.set_title("peak memory", fontsize=10)
    right.invert_yaxis()
    plain(right)
    save(figure, path)


def _bars(panel: Axes, sides: list[tuple[str, Record, float]], label: str) -> None:
    """Medians as bars, the least and the most as whiskers."""
    names = [name for name, _, _ in sides]
    medians = [factor * spread.number("median") for _, spread, factor in sides]
    below = [m - factor * spread.number("min") for m, (_, spread, factor) in zip(medians, sides, strict=True)]
    above = [factor * spread.number("max") - m for m, (_, spread, factor) in zip(medians, sides, strict=True)]
    colours = [OURS if name == _OURS else OTHER for name in names]
    bars = panel.barh(names, medians, 0.6, color=colours, xerr=[below, above], error_kw={"elinewidth": 1})
    panel.bar_label(bars, fmt="%.4g", padding=4, fontsize=8)
    panel.margins(x=0.15)
    panel.invert_yaxis()
    panel.set_xlabel(label)
    plain(panel)
