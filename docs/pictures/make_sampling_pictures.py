"""Draws what each processor leaves of a distribution: python docs/pictures/make_sampling_pictures.py [FOLDER]

The distributions are the demo model's after a prompt, as the engine that serves requests processes them: each panel is
one request with `num_processed_logprobs`. Needs matplotlib.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NUM_SHOWN = 20
NUM_COLUMNS = 2
MAX_TOKENS = 2  # only the first is looked at; an allowed sequence must fit in
NUM_COLOURS = 12  # of the files, so that they stay small
BAR, OWN = "#2a6f97", "0.85"

Chain = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Panel:
    """A processor and its parameters, as a chain has them."""

    processor: str
    params: Any

    @property
    def title(self) -> str:
        """The step much as a request writes it."""
        if not isinstance(self.params, dict):
            return f"{self.processor}: {self.params}"
        told = (f"{name} {json.dumps(value)}" for name, value in self.params.items())
        return f"{self.processor}: {', '.join(told)}"


@dataclass(frozen=True, slots=True)
class Picture:
    """One file. `stop`: a text whose token ends the answer, beside the model's own."""

    name: str
    prompt: str
    panels: tuple[Panel, ...]
    stop: str | None = None


PICTURES = (
    Picture(
        "excluding",
        "Good night.",
        (
            Panel("grammar", {"regex": " [SH].*"}),
            Panel("allowed_sequences", {"texts": [" I am", " She is"]}),
            Panel("bad_words", {"texts": ["She", "He", "It"]}),
            Panel("allowed_tokens", {"tokens": [345, 329, 338]}),
            Panel("min_tokens", 1),
            Panel("force_end", 0),
        ),
        stop="\n",
    ),
    Picture(
        "repeating",
        "He lived in a small house. She lived in a",
        (
            Panel("no_repeat_ngram", 4),
            Panel("logit_bias", {"bias": {"447": 1.5, "1450": -2}}),
            Panel("penalties", {"repetition": 1.2}),
            Panel("dry", {"multiplier": 0.8}),
        ),
    ),
    Picture(
        "temperature",
        "The duck was very",
        (
            Panel("temperature", 0.5),
            Panel("temperature", 1.5),
            Panel("dynamic_temperature", {"value": 1.0, "spread": 0.9}),
            Panel("adaptive_temperature", 2.0),
        ),
    ),
    Picture(
        "cutting",
        "The duck was very",
        (
            Panel("top_n_sigma", 1.5),
            Panel("top_h", 0.6),
            Panel("top_k", 5),
            Panel("top_p", 0.9),
            Panel("min_p", 0.3),
            Panel("typical", 0.5),
            Panel("epsilon", 0.02),
            Panel("eta", 0.02),
            Panel("xtc", {"probability": 1.0, "threshold": 0.09}),
            Panel("mirostat", {"target": 2.0}),
        ),
    ),
)


class Asker:
    """The demo model, asked for distributions."""

    def __init__(self) -> None:
        from penstock_engine.config import EngineConfig
        from penstock_engine.llm import LLM
        from penstock_server.text.codec import TextCodec

        folder = Path(__file__).resolve().parent.parent.parent / "server" / "penstock_server" / "demo_model"
        self._codec = TextCodec.load(folder)
        self._llm = LLM(EngineConfig(model=str(folder)), tokenizer=self._codec)

    def distributions(self, picture: Picture, chains: Sequence[Chain]) -> list[dict[int, float]]:
        """For each chain the probability of each token that it leaves after the prompt, the likeliest first."""
        stops = () if picture.stop is None else tuple(self._codec.encoder().within(picture.stop))
        asked = [
            {"decoding": {"chain": chain}, "num_processed_logprobs": self._llm.info.vocab_size} for chain in chains
        ]
        prompts = [picture.prompt] * len(chains)
        results = self._llm.generate(prompts, asked, max_tokens=MAX_TOKENS, stop_token_ids=stops, progress=False)
        processed = [result.answers[0].processed_logprobs[0].top for result in results]
        return [{token: math.exp(logprob) for token, logprob in top if logprob > -math.inf} for top in processed]

    def label(self, token: int) -> str:
        """A token's text, as an axis can show it."""
        text = self._codec.tokenizer.label(token)
        return "(end)" if token in self._llm.info.eos_token_ids else text.strip(" ").replace("\n", "\\n")


def draw(picture: Picture, asker: Asker, target: Path) -> None:
    """Write one picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from PIL import Image

    chains: list[Chain] = [[], *([{panel.processor: panel.params}] for panel in picture.panels)]
    own, *rest = asker.distributions(picture, chains)
    shown = list(own)[:NUM_SHOWN]
    num_rows = math.ceil(len(picture.panels) / NUM_COLUMNS)
    size = (9.0, 1.0 + 1.05 * num_rows)
    figure, axes = plt.subplots(num_rows, NUM_COLUMNS, figsize=size, sharex=True, layout="constrained", squeeze=False)
    for axis, panel, left in zip(axes.flat, picture.panels, rest, strict=True):
        axis.bar(range(NUM_SHOWN), [own[token] for token in shown], color=OWN, width=0.9)
        axis.bar(range(NUM_SHOWN), [left.get(token, 0.0) for token in shown], color=BAR, width=0.45)
        axis.set_title(f"{panel.title} · {len(left)} left", loc="left", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[-1]:
        axis.set_xticks(range(NUM_SHOWN), [asker.label(token) for token in shown], rotation=60, ha="right")
    figure.savefig(target, dpi=80)
    plt.close(figure)
    with Image.open(target) as image:
        image.convert("RGB").quantize(NUM_COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)


def main() -> None:
    """Write all pictures into the folder that is named."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    folder.mkdir(parents=True, exist_ok=True)
    asker = Asker()
    for picture in PICTURES:
        draw(picture, asker, folder / f"sampling_{picture.name}.png")


if __name__ == "__main__":
    main()
