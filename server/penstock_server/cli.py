"""The `penstock` command. An error at start is one line on stderr and exit code 1."""

import os
import sys
from collections.abc import Sequence

from penstock_server.options import OptionError, read_options


def main(arguments: Sequence[str] | None = None) -> int:
    """`penstock serve MODEL ...`, until a signal ends it, or `penstock chat ...`, until its user does."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["chat"]:
        # Knows nothing of servers and reads its own flags; serving needs none of what it loads.
        from penstock_chat.cli import main as chat

        return chat(given[1:], os.environ)
    try:
        engine_config, server_config = read_options(given, os.environ)
    except OptionError as error:
        print(f"penstock: {error}", file=sys.stderr)
        return 1
    # Loads the web framework and the engine's client: --help and a mistyped flag need neither.
    from penstock_server.serve import run
    from penstock_server.start import StartError

    try:
        return run(engine_config, server_config)
    except StartError as error:
        print(f"penstock: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
