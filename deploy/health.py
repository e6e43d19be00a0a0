"""The container's health check: exits with 0 while the server in this container takes requests, else says why not.

Speaks to the socket itself, as urllib would ask a proxy that the environment names.
"""

import http.client
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Ask /health of the server on a port of this machine: the first argument, else 8000."""
    server = http.client.HTTPConnection("127.0.0.1", int(arguments[0]) if arguments else 8000, timeout=5)
    try:
        server.request("GET", "/health")
        reply = server.getresponse()
        body = reply.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer: {error}")
        return 1
    print(reply.status, body)
    return 0 if reply.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
