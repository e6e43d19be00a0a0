"""`BlockAllocator`: which blocks of the KV cache are whose. Counts references; stores no tensor and no token.

A block is in exactly one of three states:

    free        in `_free`; holds nothing of worth
    cached      in `_cached`, no references; holds a full block of some prefix, found again by its digest, and is given
                away least recently used first when no block is free
    in use      one reference per block table that lists it

A digest names at most one block. `check()` proves all this.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable


class OutOfBlocks(Exception):
    """No block is free or cached. The scheduler asks before it takes, so this reaching anyone is a bug."""


class BlockAllocator:
    """Takes, shares and drops blocks 0 to num_blocks - 1."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._references = [0] * num_blocks
        self._free = deque(range(num_blocks))
        self._cached: OrderedDict[int, None] = OrderedDict()  # least recently used first
        self._block_of: dict[bytes, int] = {}
        self._digest_of: dict[int, bytes] = {}

    @property
    def num_available(self) -> int:
        """Blocks that `take` can give: free ones and cached ones."""
        return len(self._free) + len(self._cached)

    @property
    def num_in_use(self) -> int:
        return self.num_blocks - self.num_available

    def take(self) -> int:
        """A block with one reference and no content."""
        if self._free:
            block = self._free.popleft()
        elif self._cached:
            block, _ = self._cached.popitem(last=False)
            del self._block_of[self._digest_of.pop(block)]
        else:
            raise OutOfBlocks(f"all {self.num_blocks} blocks are in use")
        self._references[block] = 1
        return block

    def share(self, block: int) -> None:
        """One more reference to a block that is in use."""
        assert self._references[block] > 0, f"block {block} is not in use"
        self._references[block] += 1

    def drop(self, blocks: Iterable[int]) -> None:
        """One reference less to each. A block nobody refers to becomes cached if it has a digest, else free.

        Blocks given last are given away last: list a sequence's deepest block first, since a prefix is worth more.
        """
        for block in blocks:
            assert self._references[block] > 0, f"block {block} is not in use"
            self._references[block] -= 1
            if self._references[block] == 0:
                if block in self._digest_of:
                    self._cached[block] = None
                else:
                    self._free.append(block)

    def is_shared(self, block: int) -> bool:
        """Whether writing into the block would change what another table sees."""
        return self._references[block] > 1

    def register(self, block: int, digest: bytes) -> None:
        """Let a full, computed block in use be found by its digest.

        A block in use that has the digest already keeps it. One that is only cached gives way and becomes free: the
        same prefix need not be held twice.
        """
        assert self._references[block] > 0, f"block {block} is not in use"
        if block in self._digest_of:
            return
        earlier = self._block_of.get(digest)
        if earlier is not None:
            if earlier not in self._cached:
                return
            del self._cached[earlier], self._digest_of[earlier]
            self._free.append(earlier)
        self._block_of[digest] = block
        self._digest_of[block] = digest

    def forget(self, blocks: Iterable[int]) -> None:
        """Let none of these blocks in use be found any more: what they hold cannot be trusted."""
        for block in blocks:
            assert self._references[block] > 0, f"block {block} is not in use"
            digest = self._digest_of.pop(block, None)
            if digest is not None:
                del self._block_of[digest]

    def find(self, digest: bytes) -> int | None:
        """The block that holds this prefix, without taking a reference."""
        return self._block_of.get(digest)

    def take_found(self, block: int) -> None:
        """One more reference to a block that `find` returned, in use or cached."""
        self._cached.pop(block, None)
        self._references[block] += 1

    def is_cached(self, block: int) -> bool:
        """Whether the block counts as available now, though it holds a prefix."""
        return block in self._cached

    def check(self, tables: Iterable[Iterable[int]]) -> None:
        """Prove that these block tables are all references there are, and that no block is lost or held twice.

        Raises:
            AssertionError: names the first block that is wrong.
        """
        counted = [0] * self.num_blocks
        for table in tables:
            for block in table:
                counted[block] += 1
        free = set(self._free)
        assert len(free) == len(self._free), "a block is free twice"
        for block in range(self.num_blocks):
            references = self._references[block]
            assert references == counted[block], f"block {block}: {references} references, {counted[block]} in tables"
            states = (block in free) + (block in self._cached) + (references > 0)
            assert states == 1, f"block {block} is in {states} states"
        assert set(self._cached) <= set(self._digest_of), "a cached block has no digest"
        assert not free & set(self._digest_of), "a free block has a digest"
        assert {self._block_of[d]: d for d in self._block_of} == self._digest_of, "digests and blocks disagree"
