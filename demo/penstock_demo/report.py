"""`python -m penstock_demo.report FOLDER`: measures a checkpoint and writes its card, its picture and its figures."""

import json
import platform
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import torch

from penstock_demo.card import CorpusCount, draw_loss, write_card
from penstock_demo.corpus import SEED, repetition_documents, training_documents
from penstock_demo.evaluate import collect_samples, measure
from penstock_demo.generation import load
from penstock_demo.train import TrainingLog


def report(folder: Path, seed: int) -> None:
    """Write README.md and loss.png into `folder`, which must hold a checkpoint and its `training.json`."""
    checkpoint = load(folder)
    log = TrainingLog(**json.loads((folder / "training.json").read_text("utf-8")))
    figures = measure(checkpoint, seed)
    print(json.dumps(asdict(figures), indent=2), flush=True)
    documents, tokens = Counter[str](), Counter[str]()
    training = [*training_documents(seed), *repetition_documents(seed)]
    encoded = checkpoint.tokenizer([document.text for document in training], add_special_tokens=False)["input_ids"]
    for document, ids in zip(training, encoded, strict=True):
        documents[document.kind] += 1
        tokens[document.kind] += len(ids)
    counts = [CorpusCount(kind, documents[kind], tokens[kind]) for kind, _ in documents.most_common()]
    samples = collect_samples(checkpoint, seed)
    draw_loss(log, folder / "loss.png")
    card = write_card(log, counts, seed, figures, samples, _hardware(), checkpoint.model.num_parameters())
    (folder / "README.md").write_text(card, "utf-8")


def _hardware() -> str:
    """Describe the processor in general terms."""
    processors = Path("/proc/cpuinfo")
    has_amx = processors.exists() and "amx_bf16" in processors.read_text("utf-8")
    cores = "one core" if torch.get_num_threads() == 1 else f"{torch.get_num_threads()} cores"
    return f"{cores} of an {platform.machine()} processor" + (" with AMX" if has_amx else "")


if __name__ == "__main__":
    torch.set_num_threads(1)
    report(Path(sys.argv[1]), SEED)
