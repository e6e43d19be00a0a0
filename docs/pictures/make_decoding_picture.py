"""Draws what each processor leaves of one distribution: python docs/pictures/make_decoding_picture.py [FILE]

The distribution is the demo model's after a prompt; the processors are the ones that serve requests. Needs matplotlib.
"""

import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

from penstock_decoding.processor import Ask, Row
from penstock_decoding.processors import PROCESSORS
from penstock_decoding.read import read_params
from penstock_engine.config import EngineConfig
from penstock_engine.llm import LLM
from penstock_server.text.codec import TextCodec

PROMPT = "The duck was very"
NUM_SHOWN = 24
# What stands above each panel, and the chain that it shows.
PANELS: tuple[tuple[str, list[dict[str, Any]]], ...] = (
    ("the model's own", []),
    ("temperature 0.5", [{"temperature": 0.5}]),
    ("temperature 1.5", [{"temperature": 1.5}]),
    ("top_k 5", [{"top_k": 5}]),
    ("top_p 0.9", [{"top_p": 0.9}]),
    ("min_p 0.3", [{"min_p": 0.3}]),
)


def probabilities(scores: torch.Tensor, chain: list[dict[str, Any]]) -> torch.Tensor:
    """What a chain makes of the scores [vocab]; [vocab], 0 for what it excludes."""
    processed = scores.clone()[None]
    for step in chain:
        ((name, value),) = step.items()
        processor = PROCESSORS[name]()
        params = read_params(processor.Params, value, name)
        row = Row(index=0, slot=0, prompt=(), output=(), stop_token_ids=())
        plan = processor.plan([Ask(row, params)])
        if plan is not None:
            plan.apply(processed)
    return processed[0].softmax(-1)


def main() -> None:
    """Write the picture to the file that is named."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("decoding.png")
    folder = Path(__file__).resolve().parent.parent.parent / "server" / "penstock_server" / "demo_model"
    codec = TextCodec.load(folder)
    llm = LLM(EngineConfig(model=str(folder)), tokenizer=codec)
    asked = {"temperature": 0, "num_logprobs": llm.info.vocab_size}
    (result,) = llm.generate([PROMPT], asked, max_tokens=1, progress=False)
    tokens, values = zip(*result.answers[0].logprobs[0].top, strict=True)
    scores = torch.full((llm.info.vocab_size,), float("-inf"))
    scores[torch.tensor(tokens)] = torch.tensor(values)
    shown = scores.topk(NUM_SHOWN).indices
    labels = [codec.tokenizer.decode([int(token)]).strip() for token in shown]

    figure, axes = plt.subplots(len(PANELS), 1, figsize=(9, 11), sharex=True, layout="constrained")
    own = probabilities(scores, [])[shown]
    for axis, (title, chain) in zip(axes, PANELS, strict=True):
        kept = probabilities(scores, chain)
        axis.bar(range(NUM_SHOWN), own, color="0.88")
        axis.bar(range(NUM_SHOWN), kept[shown], color="#2a6f97", width=0.5)
        axis.set_title(f"{title}: {int((kept > 0).sum())} tokens left", loc="left", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xticks(range(NUM_SHOWN), labels, rotation=60, ha="right")
    figure.suptitle(f'After "{PROMPT} ..." (grey: the model\'s own distribution)', fontsize=11)
    figure.savefig(target, dpi=100)


if __name__ == "__main__":
    main()
