"""The systemd unit is one that systemd takes, and it starts what there is."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from penstock_server.options import read_options
from penstock_server.settings import ServerConfig


@pytest.fixture
def unit(root: Path) -> str:
    return (root / "deploy/systemd/penstock.service").read_text()


def test_systemd_takes_it(unit: str, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    # It looks for the program too, and this machine has none in /opt.
    file = tmp_path / "penstock.service"
    file.write_text(unit.replace("/opt/penstock/bin/penstock", shutil.which("true") or "/bin/true"))
    ran = subprocess.run([program, "verify", str(file)], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_it_starts_a_server(unit: str) -> None:
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    program, *arguments = shlex.split(line)
    assert program == "/opt/penstock/bin/penstock"
    engine, server = read_options([argument.replace("${MODEL}", "demo") for argument in arguments], {})
    assert (engine.model, server.host) == ("demo", "127.0.0.1")


def test_it_lets_the_server_drain(unit: str) -> None:
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert int(seconds) > ServerConfig().drain_timeout and "KillMode=mixed\n" in unit
