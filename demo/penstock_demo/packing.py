"""Packs documents into rows of one length. No document is cut unless it is longer than a row.

    | <|endoftext|> document | <|endoftext|> document | ... | <|endoftext|> padding |

Every document is followed by `<|endoftext|>`; the labels of the padding are -100, so that nothing is learned from it.
"""

from collections.abc import Iterator, Sequence
from random import Random

import torch

IGNORED = -100
_WINDOW = 1024  # documents that are sorted by length together


def pack(documents: Sequence[Sequence[int]], row_length: int, separator: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs and labels, both [rows, row_length] int64; labels are the inputs one token later.

    First fit, longest document first, over windows of documents: about 1% of the tokens are padding.
    """
    rows: list[list[int]] = []
    for start in range(0, len(documents), _WINDOW):
        window = sorted(documents[start : start + _WINDOW], key=len, reverse=True)
        rows += _first_fit(window, row_length, separator)
    inputs = torch.full((len(rows), row_length), separator, dtype=torch.int64)
    labels = torch.full((len(rows), row_length), IGNORED, dtype=torch.int64)
    for index, row in enumerate(rows):
        inputs[index, : len(row) - 1] = torch.tensor(row[:-1])
        labels[index, : len(row) - 1] = torch.tensor(row[1:])
    return inputs, labels


def batches(
    documents: Sequence[Sequence[int]], num_rows: int, row_length: int, separator: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches of `num_rows` rows for ever; every epoch shuffles and packs the documents anew."""
    rng = Random(f"batches {seed}")
    order = list(range(len(documents)))
    while True:
        rng.shuffle(order)
        inputs, labels = pack([documents[index] for index in order], row_length, separator)
        rows = list(range(len(inputs)))
        rng.shuffle(rows)
        for start in range(0, len(rows) - num_rows + 1, num_rows):
            chosen = rows[start : start + num_rows]
            yield inputs[chosen], labels[chosen]


def within_documents(inputs: torch.Tensor, separator: int) -> torch.Tensor:
    """Return who may look at whom, [rows, 1, row_length, row_length] bool: earlier tokens of the same document.

    A document begins with the separator in front of it.
    """
    document_ids = (inputs == separator).cumsum(dim=1)
    is_same = document_ids[:, :, None] == document_ids[:, None, :]
    return torch.tril(is_same)[:, None]


def _first_fit(documents: Sequence[Sequence[int]], row_length: int, separator: int) -> list[list[int]]:
    rows: list[list[int]] = []
    for document in documents:
        tokens = [*document, separator][:row_length]
        row = next((row for row in rows if len(row) + len(tokens) <= row_length + 1), None)
        if row is None:
            row = [separator]
            rows.append(row)
        row += tokens
    return rows
