"""`settled_heap`: what a process has when it begins to serve stays, and the garbage collector need not look at it."""

import contextlib
import gc
from collections.abc import Iterator

# More new objects than a step makes for a thousand sequences. By default the collector starts after 700: several times
# in each step of a few hundred, to find that nothing of it is garbage.
NEW_OBJECTS = 20_000


@contextlib.contextmanager
def settled_heap() -> Iterator[None]:
    """While the block runs, the collector passes over what was there before (libraries, vocabularies, a model), and
    looks at the rest less often.

    Going through 80 000 objects of libraries took it 70 ms, during which every stream stood still. Nearly all that a
    step makes is freed by its reference counts; garbage in cycles comes from requests, a few dozen objects each.
    """
    gc.collect()
    gc.freeze()
    thresholds = gc.get_threshold()
    gc.set_threshold(NEW_OBJECTS, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
