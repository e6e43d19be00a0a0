"""What transformers says of a checkpoint, in float32: the oracle beside which a client's figures are held.

A program of its own, since the clients' virtual environment has no torch. It reads a JSON object with

    folder        of the checkpoint
    pairs         [[context, continuation]]
    prompts       [{"text" or "messages", "until": [text], "max_tokens"}]

and writes one with

    likelihoods   a pair of the log-likelihood in nats and whether each token of the continuation is the likeliest, for
                  each of the pairs
    answers       what the model says greedily, cut before the first text of `until`, to each of the prompts

A pair is encoded as lm-eval does: as one text, of which all beyond the context's own tokens is the continuation; the
spaces that end the context belong to the continuation; an empty context is the token that begins a text.
"""

import json
import sys
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def likelihood(model: Any, tokenizer: Any, context: str, continuation: str) -> tuple[float, bool]:
    text, context = context + continuation, context.rstrip()
    begin = [] if context else [tokenizer.bos_token_id]
    tokens = begin + tokenizer.encode(text, add_special_tokens=False)
    start = len(begin) + len(tokenizer.encode(context, add_special_tokens=False))
    with torch.no_grad():
        logprobs = model(torch.tensor([tokens])).logits[0, start - 1 : -1].log_softmax(-1)
    counted = torch.tensor(tokens[start:])
    chosen = logprobs[torch.arange(len(counted)), counted]
    return chosen.double().sum().item(), bool((logprobs.argmax(-1) == counted).all())


def answer(model: Any, tokenizer: Any, prompt: dict[str, Any]) -> str:
    if "messages" in prompt:
        text = tokenizer.apply_chat_template(prompt["messages"], tokenize=False, add_generation_prompt=True)
    else:
        text = prompt["text"]
    tokens = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
    mask = torch.ones_like(tokens)
    more = model.generate(tokens, attention_mask=mask, do_sample=False, max_new_tokens=prompt["max_tokens"])
    said: str = tokenizer.decode(more[0, tokens.shape[1] :], skip_special_tokens=True)
    return said[: min([len(said), *(said.index(stop) for stop in prompt["until"] if stop in said)])]


def main() -> None:
    asked = json.load(sys.stdin)
    torch.set_num_threads(1)  # so small a model gains nothing by more, and on a busy machine they wait for each other
    tokenizer = AutoTokenizer.from_pretrained(asked["folder"])
    model = AutoModelForCausalLM.from_pretrained(asked["folder"], dtype=torch.float32).eval()
    told = {
        "likelihoods": [likelihood(model, tokenizer, *pair) for pair in asked["pairs"]],
        "answers": [answer(model, tokenizer, prompt) for prompt in asked["prompts"]],
    }
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
