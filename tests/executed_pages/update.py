"""Writes what was seen into pages: `make docs`, or `make docs PAGES="README.md docs/decoding.md"`.

What a model says here replaces what one said on another machine, which may have rounded a near tie the other way.
Only output that came with the expected exit status is written, and a shown line with `...` stays where it still fits;
`...` that stands for whole lines is written out, and is put back by hand where the output is long.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from executed_pages.matching import with_wildcards_of
from executed_pages.outcome import Outcome
from executed_pages.page import all_pages, read_page
from executed_pages.run import World, run_page
from real_server import serving


def main() -> int:
    """Run the pages that are named, or all; 1 if a problem is left that new output does not mend."""
    parser = argparse.ArgumentParser(description="Run pages and write the output that was seen into them.")
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE", help="default: README.md and all of docs/")
    pages = [path.resolve() for path in parser.parse_args().pages] or all_pages()
    num_left = 0
    with contextlib.ExitStack() as stack:
        urls: list[str] = []

        def demo_url() -> str:
            if not urls:
                urls.append(stack.enter_context(serving("demo")).url)
            return urls[0]

        for path in pages:
            with tempfile.TemporaryDirectory() as home:
                outcomes = run_page(read_page(path), Path(home), World(demo_url, is_exact=True))
            changed = [outcome for outcome in outcomes if outcome.problem is not None and outcome.seen is not None]
            path.write_text(rewritten(path.read_text(encoding="utf-8"), changed), encoding="utf-8")
            left = [outcome for outcome in outcomes if outcome.problem is not None and outcome.seen is None]
            print(f"{path.name}: {len(changed)} outputs written")
            for outcome in left:
                print(f"{outcome.place}\n{outcome.problem}")
            num_left += len(left)
    return 1 if num_left else 0


def rewritten(text: str, changed: Sequence[Outcome]) -> str:
    """A page with the output of these outcomes in the place of what it shows."""
    lines = text.split("\n")
    for outcome in sorted(changed, key=lambda outcome: outcome.line, reverse=True):
        assert outcome.seen is not None, "only these are changed"
        at = outcome.line - 1
        indent = lines[at - 1][: len(lines[at - 1]) - len(lines[at - 1].lstrip())]
        new = [indent + line if line else line for line in with_wildcards_of(outcome.shown, outcome.seen)]
        lines[at : at + len(outcome.shown)] = new
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
