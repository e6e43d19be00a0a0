"""`Sequence`: one live row: its tokens, its block table, and how many of its tokens are in the KV cache."""

from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Sequence:
    """One live row of a request.

        prompt                      output       flying
        |---------------------------|------------|.....|
        0         num_computed                         num_tokens
        |-- in the cache --|----- still to compute ----|

    `slot` is stable from birth to end, also while preempted: whatever remembers something about a sequence uses it.
    `block_table` covers at least the computed tokens. It only grows: when an entry changes, it becomes another list.
    `digests` are those of the leading full blocks, as far as known.

    `num_flying`: tokens that launched steps are choosing. They count as tokens, though only the device knows them, and
    what those steps compute counts as computed. `is_live`: the sequence has not ended.
    """

    slot: int
    prompt: tuple[int, ...]
    output: list[int] = field(default_factory=list)
    block_table: list[int] = field(default_factory=list)
    num_computed: int = 0
    digests: list[bytes] = field(default_factory=list)
    num_flying: int = 0
    is_live: bool = True

    @property
    def num_tokens(self) -> int:
        return len(self.prompt) + len(self.output) + self.num_flying

    @property
    def num_missing(self) -> int:
        """Tokens still to compute."""
        return self.num_tokens - self.num_computed

    def tokens(self, start: int, end: int) -> list[int]:
        """The token ids at positions start to end - 1."""
        split = len(self.prompt)
        if start >= split:
            return self.output[start - split : end - split]
        return [*self.prompt[start:end], *self.output[: max(end - split, 0)]]
