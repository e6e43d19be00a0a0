"""Load on a server with OpenAI's API: latencies, throughput, failures, as `vllm bench serve` defines them.

Without `--url` it serves the demo model and measures that. The parts are in `load/`; docs/benchmarks.md is the manual.
"""

import signal
import sys

from load.main import main

if __name__ == "__main__":
    # SIGTERM ends a run as Ctrl-C does, so that what it started is ended too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
