"""The other side of a comparison: transformers' `generate`, alone in a process of its own.

Reads lines of JSON on stdin, each a list of prompts (lists of token ids), runs them one after the other as a batch of
one each, greedily, with exactly `--tokens` tokens, and answers each line with one line of JSON: the seconds of each
prompt. The first line it writes describes it. Between lines it sleeps on stdin.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence

import torch
import transformers
from transformers import AutoModelForCausalLM, GenerationConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(arguments.folder, dtype=getattr(torch, arguments.dtype))
    model.eval()
    # No end token and no minimum length: every answer has `max_new_tokens`, with no processor in the loop.
    settings = GenerationConfig(max_new_tokens=arguments.tokens, do_sample=False, use_cache=True, pad_token_id=0)
    model.generation_config = settings

    def generate(prompt: Sequence[int]) -> float:
        start = time.perf_counter()
        ids = torch.tensor([prompt])
        answer = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        seconds = time.perf_counter() - start
        num_tokens = answer.shape[1] - len(prompt)
        if num_tokens != arguments.tokens:
            raise SystemExit(f"generate gave {num_tokens} tokens, not {arguments.tokens}")
        return seconds

    _say(
        {
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "dtype": arguments.dtype,
            "threads": torch.get_num_threads(),
            "attention": model.config._attn_implementation,
            "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        }
    )
    for line in sys.stdin:
        _say([generate(prompt) for prompt in json.loads(line)])


def _say(value: object) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main()
