"""Names full blocks of tokens by what they and everything before them hold, so that equal prefixes share blocks.

digest(block i) = BLAKE2b-256(digest(block i-1) || token ids of block i), where block -1 is a hash of the salt. Chained,
a digest stands for the whole prefix. Strong, so that nobody can craft a prompt that is answered from another one's
cache (servers that used weak or caller-supplied hashes had advisories for it).
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np


def root_digest(salt: str) -> bytes:
    """What the first block of a sequence is chained to. Different salts never share a block."""
    return blake2b(salt.encode(), digest_size=32, person=b"penstock-prefix").digest()


def block_digest(parent: bytes, token_ids: Sequence[int]) -> bytes:
    """The digest of a full block that follows the block (or root) `parent`."""
    return blake2b(parent + np.asarray(token_ids, np.int64).tobytes(), digest_size=32).digest()
