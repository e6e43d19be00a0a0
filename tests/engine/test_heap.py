"""A settled heap: nothing of before is looked at, and all is as it was afterwards."""

import gc

from penstock_engine.heap import NEW_OBJECTS, settled_heap


def test_what_was_there_is_left_alone_and_then_not() -> None:
    thresholds = gc.get_threshold()
    with settled_heap():
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold() == (NEW_OBJECTS, *thresholds[1:])
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == thresholds


def test_new_garbage_is_collected() -> None:
    class Node:
        alive = 0

        def __init__(self) -> None:
            Node.alive += 1
            self.itself = self

        def __del__(self) -> None:
            Node.alive -= 1

    with settled_heap():
        most = 0
        for _ in range(3 * NEW_OBJECTS):
            Node()
            most = max(most, Node.alive)
        assert most <= NEW_OBJECTS + 1
