"""`python -m penstock_demo`: writes the corpus, trains the demo model, measures it, and writes its card."""

import argparse
import random
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from penstock_demo.corpus import SEED, held_out_documents, repetition_documents, training_documents
from penstock_demo.phases import NUM_STEPS, PHASES, Phase, select, shortened, timed
from penstock_demo.report import report
from penstock_demo.tokenizer import learn_tokenizer
from penstock_demo.train import TrainingLog, compiled_where_possible, model_config, train


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    output: Path
    steps: int | None
    minutes: float | None
    threads: int
    seed: int


def main() -> None:
    """Run everything; about an hour on one core."""
    options = _parse()
    torch.set_num_threads(options.threads)
    training, held_out = training_documents(options.seed), held_out_documents(options.seed)
    sample = random.Random(options.seed).sample(training, min(20_000, len(training)))
    tokenizer = learn_tokenizer(document.text for document in sample)
    encoded = tokenizer([document.text for document in training], add_special_tokens=False)["input_ids"]
    encoded_held_out = tokenizer([document.text for document in held_out], add_special_tokens=False)["input_ids"]
    repetitions = tokenizer(
        [document.text for document in repetition_documents(options.seed)], add_special_tokens=False
    )
    print(f"{len(training)} documents, {sum(map(len, encoded))} tokens, vocabulary {len(tokenizer)}", flush=True)

    torch.manual_seed(options.seed)
    special = [int(tokenizer.convert_tokens_to_ids(token)) for token in ("<|endoftext|>", "<|im_end|>", "<|pad|>")]
    model = LlamaForCausalLM(model_config(len(tokenizer), *special))
    log = TrainingLog()
    for phase in _phases(options):
        documents = select(training, encoded, repetitions["input_ids"], phase)
        recipe = replace(phase.recipe, seed=phase.recipe.seed + options.seed)
        train(model, tokenizer, documents, encoded_held_out, recipe, options.output, compiled_where_possible, log)
        model = LlamaForCausalLM.from_pretrained(options.output, dtype=torch.float32)
    report(options.output, options.seed)


def _phases(options: Options) -> tuple[Phase, ...]:
    if options.minutes is not None:
        return timed(PHASES, options.minutes)
    return PHASES if options.steps is None else shortened(PHASES, options.steps)


def _parse() -> Options:
    parser = argparse.ArgumentParser(prog="python -m penstock_demo", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="the checkpoint folder to write")
    parser.add_argument("--steps", type=int, help=f"training steps of all phases (default: {NUM_STEPS}, as shipped)")
    parser.add_argument("--minutes", type=float, help="train for as many steps as fit into this time instead")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the corpus and of the training (default: {SEED})")
    parsed = parser.parse_args()
    return Options(parsed.output, parsed.steps, parsed.minutes, parsed.threads, parsed.seed)


if __name__ == "__main__":
    main()
