"""OpenAI's client for Node: runs node/openai.test.mjs, whose own tests report in TAP."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from real_server import Served

NODE = shutil.which("node")
FOLDER = Path(__file__).parent / "node"
SECONDS = 120

pytestmark = [
    pytest.mark.skipif(NODE is None, reason="Node is not installed"),
    pytest.mark.skipif(
        not (FOLDER / "node_modules" / "openai").is_dir(), reason="the packages of node/package.json are not installed"
    ),
]


def test_openai_for_node(demo: Served, tools: Served, narrow: Served) -> None:
    assert NODE is not None
    urls = {"DEMO_URL": f"{demo.url}/v1", "TOOLS_URL": f"{tools.url}/v1", "NARROW_URL": f"{narrow.url}/v1"}
    done = subprocess.run(
        [NODE, "--test", "--test-reporter=tap", "openai.test.mjs"],
        cwd=FOLDER,
        env={**os.environ, **urls},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert passed and int(passed[1]) == (FOLDER / "openai.test.mjs").read_text().count("\ntest("), done.stdout
    assert "# fail 0\n" in done.stdout and "# skipped 0\n" in done.stdout
