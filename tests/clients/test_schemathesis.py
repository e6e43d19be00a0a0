"""schemathesis against the served document: requests made from its schemas, right ones and wrong ones.

No reply is a 5xx, each one is as the document says, nothing that the document forbids is taken, and every route but two
asks for the key. Not among the checks: that whatever the document allows is taken. Fields contradict each other in ways
that no schema tells (`top_k` beside a chain), and such a request is refused by name.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from real_server import Served, serving

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("schemathesis") is None, reason="schemathesis is not installed"
)

PROGRAM = Path(os.environ.get("PENSTOCK_PROGRAM", Path(__file__).parents[2] / ".venv" / "bin" / "penstock"))
KEY = "sk-of-the-test"
# A short context bounds what an answer can take.
FLAGS = ("--max-model-len", "128", "--max-n", "4")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "ignored_auth",
    "unsupported_method",
)
# It has a list of what a refusal may be, which lacks 413. Of what is too long for the schema some is too long for us.
CONFIGURATION = """
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "404", "405", "413"]
"""


def run(served: Served, folder: Path, *arguments: str) -> int:
    """The number of requests that were made; none of the checks failed."""
    program = Path(sys.executable).parent / "schemathesis"
    (folder / "schemathesis.toml").write_text(CONFIGURATION)
    options = ("--checks", ",".join(CHECKS), "--generation-deterministic", "--no-shrink", "--no-color")
    done = subprocess.run(
        [program, "run", f"{served.url}/openapi.json", *options, *arguments],
        cwd=folder,  # it keeps what it found in a folder of its own
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    # A body that it shows can be megabytes long.
    assert done.returncode == 0, "\n".join(line[:500] for line in done.stdout.splitlines())
    found = re.search(r"(\d+) generated", done.stdout)
    assert found is not None, done.stdout
    return int(found[1])


def test_the_examples_and_what_the_schemas_allow_and_forbid(tmp_path: Path) -> None:
    with serving("demo", *FLAGS, program=PROGRAM) as served:
        assert run(served, tmp_path, "--phases", "examples,fuzzing", "-n", "8", "--max-time", "25") > 60
        assert served.process.poll() is None


def test_with_a_key(tmp_path: Path) -> None:
    with serving("demo", *FLAGS, "--api-key", KEY, program=PROGRAM) as served:
        key = ("-H", f"Authorization: Bearer {KEY}")
        assert run(served, tmp_path, *key, "--phases", "fuzzing", "-n", "3", "--max-time", "10") > 20
