"""The known name that a mistyped one is nearest to."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean ...?`, or nothing if no known name is near."""
    known = list(known)
    begun = [one for one in known if one.startswith(name)] if len(name) > 1 else []
    found = begun or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""
