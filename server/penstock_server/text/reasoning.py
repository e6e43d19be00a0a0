"""`ReasoningParser`: what a model thinks, between `<think>` and `</think>`, apart from what it says."""

from penstock_server.text.pieces import AnswerParser, Piece, Reasoning, num_begun

OPEN, CLOSE = "<think>", "</think>"


def begins_thinking(prompt: str) -> bool:
    """Whether the prompt leaves off inside a thought, as the templates of some models do."""
    return prompt.rfind(OPEN) > prompt.rfind(CLOSE)


class ReasoningParser:
    """At most one thought, at the answer's start; the rest is another parser's.

    White space around the marks belongs to neither part, as in the peers' replies.
    """

    def __init__(self, rest: AnswerParser, *, is_thinking: bool) -> None:
        """`is_thinking`: the prompt has begun the thought already."""
        self._rest = rest
        self._held = ""
        self._state = "thinking" if is_thinking else "before"
        self._is_blank = True  # nothing but white space in this part so far

    def push(self, text: str) -> list[Piece]:
        if self._state == "after" and not self._is_blank:
            return self._rest.push(text)
        self._held += text
        pieces: list[Piece] = []
        if self._state == "before":
            start = self._held.lstrip()
            if OPEN.startswith(start):  # also when there is nothing yet
                if start != OPEN:
                    return pieces
                self._held = OPEN
            if self._held.lstrip().startswith(OPEN):
                self._held = self._held.lstrip()[len(OPEN) :]
                self._state = "thinking"
            else:
                self._state, self._is_blank = "after", False
                held, self._held = self._held, ""
                return self._rest.push(held)
        if self._state == "thinking":
            pieces += self._think()
        if self._state == "after":
            pieces += self._begin_rest()
        return pieces

    def finish(self) -> list[Piece]:
        held, self._held = self._held, ""
        if self._state == "thinking":
            return [Reasoning(held)] if held.strip() else []
        if self._state == "after" and self._is_blank:
            return self._rest.finish()  # nothing came but white space
        return [*self._rest.push(held), *self._rest.finish()]

    def _think(self) -> list[Piece]:
        thought, mark, rest = self._held.partition(CLOSE)
        if self._is_blank:
            thought = thought.lstrip()
        if mark:
            self._held, self._state, self._is_blank = rest, "after", True
            thought = thought.rstrip()
            return [Reasoning(thought)] if thought else []
        # White space at its end may turn out to stand before the mark, and what looks like the mark may be it.
        sure = len(thought) - num_begun(thought, CLOSE)
        sure = len(thought[:sure].rstrip())
        self._held = thought[sure:]
        if not sure:
            return []
        self._is_blank = False
        return [Reasoning(thought[:sure])]

    def _begin_rest(self) -> list[Piece]:
        held, self._held = self._held.lstrip(), ""
        if not held:
            return []
        self._is_blank = False
        return self._rest.push(held)
