"""Rows hold whole documents, and labels are inputs one token later."""

import torch

from penstock_demo.packing import IGNORED, batches, pack, within_documents

DOCUMENTS = [[5] * 3, [6] * 9, [7] * 2, [8] * 4, [9] * 40]


def test_no_document_is_cut_unless_it_is_longer_than_a_row() -> None:
    inputs, labels = pack(DOCUMENTS, row_length=16, separator=0)
    assert inputs.shape == labels.shape
    assert (inputs[:, 0] == 0).all()
    for document in DOCUMENTS[:4]:
        assert any((row == document[0]).sum() == len(document) for row in inputs)
    assert (inputs == 9).sum() == 15


def test_labels_follow_inputs() -> None:
    inputs, labels = pack(DOCUMENTS, row_length=16, separator=0)
    for row, label in zip(inputs, labels, strict=True):
        known = label[:-1] != IGNORED
        follows = known & (label[1:] != IGNORED)
        assert torch.equal(row[1:][follows], label[:-1][follows])


def test_batches_go_on_for_ever_and_repeat_from_their_seed() -> None:
    first, second = (batches(DOCUMENTS, 2, 16, 0, seed=1) for _ in range(2))
    for _ in range(10):
        assert torch.equal(next(first)[0], next(second)[0])


def test_a_token_sees_only_what_came_before_in_its_document() -> None:
    mask = within_documents(torch.tensor([[0, 5, 5, 0, 6]]), separator=0)
    assert mask.shape == (1, 1, 5, 5)
    assert mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]
