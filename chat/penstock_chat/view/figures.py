"""The line after a reply: how many tokens, how fast, why it ended, and the seed that gives it again."""

from penstock_chat.receive import Figures, Received


def figures_line(received: Received) -> str:
    """Like `24 tokens · 51.3 tokens/s · first after 0.05 s · stop · seed 7`; what is not known is left out.

    Speed is of the tokens after the first one, whose time is the prompt's. Where the server counts no tokens, pieces of
    the stream stand in for them and are called so.
    """
    parts = [*_counts(received.figures), *_ending(received)]
    if received.reply is not None and received.reply.seed is not None:
        parts.append(f"seed {received.reply.seed}")
    return " · ".join(parts)


def _counts(figures: Figures) -> list[str]:
    if figures.first_seconds is None and figures.num_tokens is None:
        return []
    number, unit = (figures.num_tokens, "token") if figures.num_tokens is not None else (figures.num_chunks, "chunk")
    parts = [f"{number} {unit}{'' if number == 1 else 's'}"]
    if number > 1 and figures.rest_seconds > 0:
        parts.append(f"{(number - 1) / figures.rest_seconds:.1f} {unit}s/s")
    if figures.first_seconds is not None:
        parts.append(f"first after {figures.first_seconds:.2f} s")
    return parts


def _ending(received: Received) -> list[str]:
    if received.failure is not None:
        return ["broken off"] if received.reply is not None else []
    if received.reply is None or received.reply.ending == "stopped":
        return ["stopped"]
    return [received.reply.finish_reason] if received.reply.finish_reason else []
