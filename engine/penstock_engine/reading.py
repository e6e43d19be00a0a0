"""`Reading`: how far a request's prompt has been told, and what is kept of it until all of it is. Torch-free.

A position is read in the step that computes it: what the model gives there tells how likely the next token of the
prompt was, and is the position's share of the prompt's embedding.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock_engine.outputs import TokenLogprobs
from penstock_engine.request import PromptReading

SCORES_NOT_FINITE = "the model gave scores of the prompt that are not finite numbers"
STATES_NOT_FINITE = "the model gave hidden states of the prompt that are not finite numbers"


@dataclass(frozen=True, slots=True)
class PartRead:
    """What one step read of one prompt, up to, not including, position `end`.

    logprobs: of the tokens that follow the positions read, where the request asks for them; the last position of a
    prompt is followed by none. hidden: float64 [hidden_size], of "mean" the sum of the hidden states at the positions
    read, of "last" the one at the prompt's last position; None where there is none. fault: why all this means nothing;
    None if all is well.
    """

    end: int
    logprobs: tuple[TokenLogprobs, ...] = ()
    hidden: NDArray[np.float64] | None = None
    fault: str | None = None


class Told(NamedTuple):
    """What a step's part comes to, as `StepOutput` has it."""

    prompt_logprobs: tuple[TokenLogprobs, ...]
    embedding: bytes | None


class Reading:
    """Follows one prompt from its first position to its last, in any number of parts.

    prompt          |-------------------------|-------------|
                    0                         num_read      num_prompt
    |------------ told, never read again -----|-- may not come from the prefix cache --|
    """

    def __init__(self, asked: PromptReading, num_prompt: int) -> None:
        self.asked = asked
        self._num_prompt = num_prompt
        # What is told of a position needs nothing of those before it but their keys and values.
        needed = [num_prompt - 1]
        if asked.num_logprobs is not None:
            needed.append(asked.first - 1)
        if asked.pooling == "mean":
            needed.append(0)
        self.num_read = min(needed)
        self._hidden: NDArray[np.float64] | None = None

    @property
    def is_over(self) -> bool:
        """Whether all of the prompt has been read."""
        return self.num_read == self._num_prompt

    def unread(self, start: int, end: int) -> range:
        """Those of the positions start to end - 1 that are to be read when they are computed."""
        return range(max(start, self.num_read), min(end, self._num_prompt))

    def take(self, part: PartRead) -> Told:
        """Go on by what a step has read. It has no fault, and begins where the part before it ended."""
        self.num_read = part.end
        if part.hidden is not None:
            self._hidden = part.hidden if self._hidden is None else self._hidden + part.hidden
        embedding = None
        if self.is_over and self._hidden is not None:
            count = self._num_prompt if self.asked.pooling == "mean" else 1
            embedding = (self._hidden / count).astype(np.float32).tobytes()
            self._hidden = None
        return Told(part.logprobs, embedding)
