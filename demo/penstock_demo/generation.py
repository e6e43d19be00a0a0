"""Continues prompts with a checkpoint, greedily or by sampling, through transformers. Only measurements need it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from penstock_demo.chat import Message

_ROWS = 32


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded checkpoint folder, in float32 so that figures do not depend on the CPU's bfloat16."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast


def load(folder: Path) -> Checkpoint:
    """Load a checkpoint folder."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return Checkpoint(model.eval(), AutoTokenizer.from_pretrained(folder, padding_side="left"))


def ask(checkpoint: Checkpoint, questions: Sequence[str], temperature: float, num_tokens: int, seed: int) -> list[str]:
    """Return one answer to each question, asked as the first turn of a chat; temperature 0 is greedy."""
    return chat(checkpoint, [[Message("user", question)] for question in questions], temperature, num_tokens, seed)


def chat(
    checkpoint: Checkpoint, chats: Sequence[Sequence[Message]], temperature: float, num_tokens: int, seed: int
) -> list[str]:
    """Return the next turn of each chat."""
    prompts = [
        checkpoint.tokenizer.apply_chat_template(
            [{"role": message.role, "content": message.content} for message in messages],
            tokenize=False,
            add_generation_prompt=True,
        )
        for messages in chats
    ]
    return _continue(checkpoint, [str(prompt) for prompt in prompts], temperature, num_tokens, seed)


def complete(
    checkpoint: Checkpoint, prompts: Sequence[str], temperature: float, num_tokens: int, seed: int
) -> list[str]:
    """Return a continuation of each plain text."""
    prefix = str(checkpoint.tokenizer.bos_token)
    return _continue(checkpoint, [prefix + prompt for prompt in prompts], temperature, num_tokens, seed)


def _continue(
    checkpoint: Checkpoint, prompts: Sequence[str], temperature: float, num_tokens: int, seed: int
) -> list[str]:
    torch.manual_seed(seed)
    texts: list[str] = []
    for start in range(0, len(prompts), _ROWS):
        batch = checkpoint.tokenizer(
            list(prompts[start : start + _ROWS]), add_special_tokens=False, padding=True, return_tensors="pt"
        )
        output = checkpoint.model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=num_tokens,
            do_sample=temperature > 0,
            temperature=temperature or None,
            top_p=None,
            top_k=0 if temperature else None,
        )
        new = output[:, batch["input_ids"].shape[1] :]
        texts += [text.strip() for text in checkpoint.tokenizer.batch_decode(new, skip_special_tokens=True)]
    return texts
