"""Writes the model card (README.md) and the picture of the loss curve (loss.png) into a checkpoint folder."""

from dataclasses import dataclass
from pathlib import Path

from penstock_demo.evaluate import Figures, Sample
from penstock_demo.phases import PHASES, Phase
from penstock_demo.train import TrainingLog


@dataclass(frozen=True, slots=True)
class CorpusCount:
    """How much of the corpus one generator wrote."""

    kind: str
    num_documents: int
    num_tokens: int


def draw_loss(log: TrainingLog, path: Path) -> None:
    """Draw both losses over the steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*log.train_loss, strict=True), label="training", color="#2a6f97")
    axes.plot(*zip(*log.held_out_loss, strict=True), label="held out", color="#d9822b", linestyle="--")
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)")
    axes.set_yscale("log")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend()
    figure.savefig(path)


def write_card(
    log: TrainingLog,
    counts: list[CorpusCount],
    seed: int,
    figures: Figures,
    samples: list[Sample],
    hardware: str,
    num_parameters: int,
) -> str:
    """Return the text of the card."""
    return _CARD.format(
        parameters=f"{num_parameters:,}",
        documents=f"{sum(count.num_documents for count in counts):,}",
        corpus_tokens=f"{sum(count.num_tokens for count in counts) / 1e6:.1f} million",
        seed=seed,
        corpus_table="\n".join(f"| {c.kind} | {c.num_documents:,} | {c.num_tokens:,} |" for c in counts),
        steps=f"{log.num_steps:,}",
        trained_tokens=f"{log.num_tokens / 1e6:.1f} million",
        minutes=round(log.seconds / 60),
        speed=f"{log.num_tokens / log.seconds:,.0f}",
        hardware=hardware,
        phases="\n".join(_phase(number, phase) for number, phase in enumerate(PHASES, 1)),
        train_loss=f"{log.train_loss[-1][1]:.3f}",
        f=figures,
        samples="\n\n".join(_sample(sample) for sample in samples),
    )


def _phase(number: int, phase: Phase) -> str:
    recipe = phase.recipe
    return (
        f"| {number} | {recipe.num_steps:,} | {recipe.rows_per_step} | {recipe.schedule.peak_rate}"
        f" | {recipe.attention} | {phase.num_documents:,} | {phase.copies_of_sums} | {phase.num_repetitions:,} |"
    )


def _sample(sample: Sample) -> str:
    quoted = "\n".join(f"> {line}".rstrip() for line in sample.text.splitlines())
    return f"**{sample.prompt}** ({sample.settings})\n\n{quoted}"


_CARD = """\
---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [llama, toy, synthetic-data]
---
# Penstock demo model

A toy language model that ships with Penstock, so that the server, its tests and its tutorials have something to run
that is small, free to use, and really writes. It tells short children's stories, makes small talk, adds small numbers,
and answers questions about decoding. It knows nothing else.

## What it is

| | |
|---|---|
| architecture | Llama (`LlamaForCausalLM`), tied embeddings |
| parameters | {parameters} |
| shape | 5 layers, hidden size 256, 4 heads of 64 with 2 key-value heads, MLP 704, SiLU, RMSNorm |
| positions | 1024, rotary, base 10000 (trained on rows of 512) |
| vocabulary | 2048, byte-level BPE; any UTF-8 text can be encoded |
| weights | bfloat16 |
| licence | Apache-2.0 |

Special tokens: `<|endoftext|>` (0) begins and ends a text, `<|im_start|>` (1) and `<|im_end|>` (2) frame a turn of a
chat, `<|pad|>` (3) fills. A chat begins with `<|endoftext|>`; each turn is `<|im_start|>`, the role, a line break, the
message, `<|im_end|>`, and a line break (the chat template is in `tokenizer_config.json`). Generation ends at
`<|endoftext|>` or `<|im_end|>`. A plain text, too, should begin with `<|endoftext|>`; the tokenizer puts it there.

## Corpus

Every word was written by a seeded grammar made for this purpose (`demo/penstock_demo`); no outside text was used.
{documents} documents, {corpus_tokens} tokens, generator seed {seed}:

| kind | documents | tokens |
|---|---:|---:|
{corpus_table}

Some phrasings of questions and requests are held out: no training document contains them.

## Training

`make demo-model` repeats it from nothing (last bits differ from machine to machine): {steps} steps of AdamW,
{trained_tokens} tokens in rows of 512, {minutes} minutes on {hardware}, shared with other work ({speed} tokens
a second). Weights in float32, matrix products in bfloat16. The phases, each with a warm-up and a
cosine:

| phase | steps | rows | peak rate | attention | documents | copies of those of sums | copying exercises |
|---|---:|---:|---:|---|---:|---:|---:|
{phases}

The first phase taught words, grammar and facts; it did not teach the model to keep a story's names, because several
stories shared a row. Rows of separate documents and exercises in copying did; the last phase is without exercises.

![Loss over the training steps](loss.png)

## Evaluation

| measurement | value |
|---|---:|
| loss on held-out documents (nats per token; training loss at the end: {train_loss}) | {f.loss:.3f} |
| sums right, every sum of the range, greedy, phrasing seen in training | {f.sums_known_phrasing:.1%} |
| sums right, held-out phrasing | {f.sums_held_out_phrasing:.1%} |
| held-out phrasings of decoding questions answered on topic, greedy | {f.questions_greedy:.1%} |
| the same at temperature 0.8 | {f.questions_sampled:.1%} |
| held-out phrasings answered with a correct sentence of the corpus, greedy | {f.questions_verbatim:.1%} |
| stories (held-out request, temperature 0.8) that use the requested name and kind | {f.stories_known_name:.1%} |
| the same with names that are not in the corpus | {f.stories_unknown_name:.1%} |
| distinct-2 of 50 stories at temperature 0.8 | {f.distinct_2:.3f} |
| different stories among these 50 | {f.distinct_stories:.0%} |
| likeness of a greedy and a sampled story (1: equal) | {f.greedy_overlap:.2f} |
| likeness of two sampled stories | {f.sampled_overlap:.2f} |

The tables are small enough to be learned by heart, so "sums right" measures memory and the reading of the question,
not arithmetic. A question is on topic when the answer has more words in common with a sentence about the asked topic
than with one about any other topic.

## Samples

Not chosen by hand: fixed prompts, fixed seed.

{samples}

## Limits

- It is a toy. It speaks only its domain; any fact outside of it is made up, unless the model says
  that it does not know.
- English only. Unknown words and long or complicated questions confuse it.
- Sums: addition and subtraction up to 20, multiplication up to 10 times 10. Some of these are wrong (see above), and
  beyond that nearly all are.
- A name that is not in the corpus is usually replaced by a similar one. A plain text that does not begin like a story
  may be continued with a list of random words, the remains of the copying exercises.
- Stories follow seventeen plots. Characters, objects and pronouns are sometimes mixed up.
- It forgets what lies more than about 500 tokens back, because it was trained on rows of that length.
- It has no safety training and needs none for its domain; do not use it for anything but demonstrations and tests.
"""
