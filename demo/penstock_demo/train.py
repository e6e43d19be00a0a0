"""Trains the model: AdamW, a warm-up and a cosine, bfloat16 matrix products over float32 weights."""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from penstock_demo.checkpoint import save_checkpoint
from penstock_demo.packing import IGNORED, batches, pack, within_documents
from penstock_demo.schedule import FIRST_TIMED_STEP, LAST_TIMED_STEP, Schedule, steps_that_fit

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_FIRST_SAVE = 60  # steps; whoever waits for any checkpoint at all gets one within two minutes


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the result besides the corpus.

    `num_steps` None: as many as fit into `minutes`. `horizon` is the step at which the rate would reach its end; a
    training may stop before it. None: at the last step.
    """

    num_steps: int | None
    horizon: int | None = None
    minutes: float = 55.0
    seed: int = 0
    attention: Literal["across documents", "within documents"] = "within documents"
    row_length: int = 512
    rows_per_step: int = 8
    schedule: Schedule = field(default_factory=Schedule)
    weight_decay: float = 0.1
    steps_per_check: int = 200
    seconds_per_save: float = 150.0


@dataclass(slots=True)
class TrainingLog:
    """What happened: losses in nats per token, by step."""

    num_steps: int = 0
    num_tokens: int = 0
    seconds: float = 0.0
    train_loss: list[tuple[int, float]] = field(default_factory=list)
    held_out_loss: list[tuple[int, float]] = field(default_factory=list)


def model_config(vocabulary_size: int, end_of_text: int, turn_end: int, padding: int) -> LlamaConfig:
    """Return the shape of the shipped model: 4.2 million parameters."""
    return LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=end_of_text,
        eos_token_id=[end_of_text, turn_end],
        pad_token_id=padding,
    )


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    documents: Sequence[Sequence[int]],
    held_out: Sequence[Sequence[int]],
    recipe: Recipe,
    output: Path,
    speed_up: Callable[[Loss], Loss],
    log: TrainingLog,
) -> None:
    """Train `model` and leave its checkpoint in `output`, together with `training.json`; goes on with `log`.

    `speed_up` may compile the loss (see `compiled_where_possible`). The checkpoint is replaced every few minutes, so
    that a usable one is there early.
    """
    separator = int(tokenizer.convert_tokens_to_ids("<|endoftext|>"))
    held_out_rows = pack(held_out, recipe.row_length, separator)
    optimizer = _optimizer(model, recipe)
    loss_of = speed_up(lambda inputs, labels: _loss(model, inputs, labels, recipe.attention))

    steps_before, seconds_before = log.num_steps, log.seconds
    num_steps = recipe.num_steps
    started = saved = timed_from = time.monotonic()
    recent: list[float] = []
    stream = batches(documents, recipe.rows_per_step, recipe.row_length, separator, recipe.seed)
    for step, (inputs, labels) in enumerate(stream, start=1):
        now = time.monotonic()
        if step == FIRST_TIMED_STEP:
            timed_from = now
        if num_steps is None and step == LAST_TIMED_STEP + 1:
            num_steps = LAST_TIMED_STEP + steps_that_fit(recipe.minutes * 60 - (now - started), now - timed_from)
            print(f"{num_steps} steps fit into {recipe.minutes} minutes", flush=True)
        for group in optimizer.param_groups:
            group["lr"] = recipe.schedule.rate(step, recipe.horizon or num_steps)
        loss = loss_of(inputs, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        recent.append(loss.item())
        log.num_steps, log.seconds = steps_before + step, seconds_before + time.monotonic() - started
        log.num_tokens += int((labels != IGNORED).sum())
        is_last = step == num_steps
        if step % recipe.steps_per_check == 0 or is_last:
            log.train_loss.append((log.num_steps, sum(recent) / len(recent)))
            log.held_out_loss.append((log.num_steps, held_out_loss(model, held_out_rows)))
            recent.clear()
            print(f"step {step}/{num_steps} {log.seconds:.0f} s train {log.train_loss[-1][1]:.4f}"
                  f" held out {log.held_out_loss[-1][1]:.4f}", flush=True)  # fmt: skip
        if is_last or step == _FIRST_SAVE or time.monotonic() - saved > recipe.seconds_per_save:
            saved = time.monotonic()
            save_checkpoint(model, tokenizer, output)
            (output / "training.json").write_text(json.dumps(asdict(log)) + "\n", "utf-8")
        if is_last:
            break


def compiled_where_possible(loss: Loss) -> Loss:
    """Compile `loss` if there is a C++ compiler (1.3 times as fast on one AMX core), else return it as it is."""
    if not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        return loss
    compiled: Loss = torch.compile(loss, dynamic=False)
    return compiled


def held_out_loss(model: LlamaForCausalLM, rows: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Return the mean loss in nats per token over `rows`, every document alone."""
    total, count = 0.0, 0
    with torch.no_grad():
        for inputs, labels in zip(torch.split(rows[0], 8), torch.split(rows[1], 8), strict=True):
            num_tokens = int((labels != IGNORED).sum())
            total += _loss(model, inputs, labels, "within documents").item() * num_tokens
            count += num_tokens
    return total / count


def _loss(model: LlamaForCausalLM, inputs: torch.Tensor, labels: torch.Tensor, attention: str) -> torch.Tensor:
    separator = int(model.config.bos_token_id)
    mask = within_documents(inputs, separator) if attention == "within documents" else None
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=inputs, attention_mask=mask, use_cache=False).logits
    return cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED)


def _optimizer(model: LlamaForCausalLM, recipe: Recipe) -> torch.optim.AdamW:
    """Matrices decay, the gains of the norms do not."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    gains = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": gains, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.schedule.peak_rate, betas=(0.9, 0.95), fused=True)
