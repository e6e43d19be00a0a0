"""`TokenLists`: a set of token sequences, packed. Up to millions of tokens, which travel, compare and hash as bytes.

Invariant: the sequences are in ascending order and each stands once, so that equal sets are equal.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

MAX_TOKEN_ID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class TokenLists:
    """`tokens`: of all sequences, one after the other; `sizes`: how many each has. Both int32."""

    tokens: bytes = b""
    sizes: bytes = b""

    @classmethod
    def of(cls, sequences: Iterable[Sequence[int]]) -> "TokenLists":
        """These sequences, in order and without repeats.

        Raises:
            ValueError: says which number is no token id.
        """
        ordered = sorted(set(map(tuple, sequences)))
        try:
            tokens = np.fromiter(chain.from_iterable(ordered), np.int64)
        except OverflowError:
            raise ValueError("a number of more than 64 bits is not a token id") from None
        wrong = tokens[(tokens < 0) | (tokens > MAX_TOKEN_ID)]
        if len(wrong):
            raise ValueError(f"{wrong[0]} is not a token id")
        sizes = np.fromiter(map(len, ordered), np.int32)
        return cls(tokens.astype(np.int32).tobytes(), sizes.tobytes())

    def __len__(self) -> int:
        return len(self.sizes) // 4

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        ends = np.cumsum(self.each_size())[:-1]
        return (tuple(part.tolist()) for part in np.split(self.each_token(), ends)) if len(self) else iter(())

    def each_size(self) -> NDArray[np.int32]:
        """[sequences]"""
        return np.frombuffer(self.sizes, np.int32)

    def each_token(self) -> NDArray[np.int32]:
        """[tokens of all sequences]"""
        return np.frombuffer(self.tokens, np.int32)

    def last_tokens(self) -> NDArray[np.int32]:
        """[sequences]; none of them empty."""
        return self.each_token()[np.cumsum(self.each_size()) - 1]
