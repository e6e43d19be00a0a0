"""Writes the checkpoint folder. A reader sees the old files or the new ones, never half a file."""

import copy
import json
import os
import shutil
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast


def save_checkpoint(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save `model` in bfloat16 with its configuration and tokenizer; does not change `model`."""
    partial = folder / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    half = copy.deepcopy(model).to(torch.bfloat16)
    half.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")],
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=0.8,
        top_p=0.95,
    )
    half.save_pretrained(partial)
    tokenizer.save_pretrained(partial, save_jinja_files=False)
    _name_the_tokenizer_class(partial / "tokenizer_config.json")
    for file in sorted(partial.iterdir(), key=lambda entry: entry.name == "model.safetensors"):
        file.chmod(0o644)
        os.replace(file, folder / file.name)
    partial.rmdir()


def _name_the_tokenizer_class(path: Path) -> None:
    """Use the class name that releases before transformers 5 know as well."""
    settings = json.loads(path.read_text("utf-8"))
    for key in ("is_local", "local_files_only"):  # how it was loaded, not what it is
        settings.pop(key, None)
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", "utf-8")
