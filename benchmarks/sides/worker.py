"""The process of one side: takes lines of JSON on stdin, answers each with one line on stdout, sleeps in between.

    {"load": {"folder": ..., "terms": {...}}}        -> {"value": <description>}
    {"answer": {"prompts": ..., "lengths": ...}}     -> {"value": {"seconds": ..., "answers": ...}}
    {"unload": {}}                                   -> {"value": null}
    {"baseline": {}}, {"peak": {}}                   -> {"value": <bytes>}

What goes wrong is answered with {"error": <what>}. Only the clock of `answer` counts: encoding the lines does not.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from memory import peak_memory, reset_peak, resident_memory

from sides.side import Side, Terms


def _llm() -> Side:
    from sides.llm import LLMSide

    return LLMSide()


def _generate() -> Side:
    from sides.generate import GenerateSide

    return GenerateSide(batch_size=1)


def _generate_batched() -> Side:
    from sides.generate import GenerateSide

    return GenerateSide(batch_size=None)


def _continuous() -> Side:
    from sides.continuous import ContinuousSide

    return ContinuousSide()


# Built only where it is asked for: a side's process imports nothing of another's.
SIDES: Mapping[str, Callable[[], Side]] = {
    "LLM": _llm,
    "generate": _generate,
    "generate, batched": _generate_batched,
    "continuous batching": _continuous,
}


def run(side: Side, requests: TextIO, replies: TextIO) -> None:
    """Answer lines until there are no more."""
    for line in requests:
        ((command, arguments),) = json.loads(line).items()
        try:
            reply = {"value": _do(side, command, arguments)}
        except Exception as error:
            # Whatever a side raises is for the process that compares: it knows whether it can go on without.
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _do(side: Side, command: str, arguments: Mapping[str, Any]) -> object:
    match command:
        case "load":
            return side.load(arguments["folder"], Terms(**arguments["terms"]))
        case "answer":
            start = time.perf_counter()
            answers = side.answer(arguments["prompts"], arguments["lengths"])
            return {"seconds": time.perf_counter() - start, "answers": answers}
        case "unload":
            side.unload()
            return None
        case "baseline":
            reset_peak()
            return resident_memory()
        case "peak":
            return peak_memory()
    raise ValueError(f"unknown command {command!r}")


def main() -> None:
    # Libraries print to stdout what they like; only replies belong into the pipe.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    run(SIDES[sys.argv[1]](), sys.stdin, replies)
    # A library's thread that does not end must not keep the process.
    os._exit(0)


if __name__ == "__main__":
    main()
