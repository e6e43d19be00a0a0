"""Lives of sequences for processors that remember them: appended to, cut back and forked, with plans in between."""

from collections.abc import Callable, Iterator

from decoding_rows import make_row
from hypothesis import strategies as st

from penstock_decoding.processor import Row, Stateful

VOCAB_SIZE = 30
Edits = list[tuple[str, object]]

# Few distinct tokens, so that there are repeats.
TOKENS = st.lists(st.integers(0, 3), max_size=12)
EDITS: st.SearchStrategy[Edits] = st.lists(
    st.tuples(st.just("append"), TOKENS)
    | st.tuples(st.just("rollback"), st.integers(0, 20))
    | st.tuples(st.just("fork"), st.none()),
    max_size=12,
)


def live(
    processor: Stateful, prompt: list[int], edits: Edits, plan: Callable[[Row], object]
) -> Iterator[tuple[int, list[int]]]:
    """Take a processor through the edits, with a plan after every other one; gives each slot and its answer."""
    outputs = {0: list[int]()}
    for i, (kind, argument) in enumerate(edits):
        slot = i % len(outputs)
        match kind, argument:
            case "append", list():
                outputs[slot] = [*outputs[slot], *argument]
            case "rollback", int():
                del outputs[slot][argument:]
                processor.rollback(slot, len(outputs[slot]))
            case _:
                target = len(outputs)
                outputs[target] = list(outputs[slot])
                processor.fork(slot, target)
        if i % 2:
            plan(make_row(0, slot=slot, prompt=prompt, output=outputs[slot]))
    yield from outputs.items()
