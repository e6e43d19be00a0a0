"""The Dockerfile copies what there is and keeps no tools; the wheel it installs serves without this repository.

The image itself is built where there is an engine for it; docs/deployment.md says how.
"""

import fnmatch
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import httpx
import pytest
from real_server import WAIT_SECONDS


@pytest.fixture(scope="module")
def stages(root: Path) -> list[str]:
    """The Dockerfile's stages, comments left out and continued lines joined."""
    text = (root / "Dockerfile").read_text()
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return re.split(r"^(?=FROM )", text, flags=re.MULTILINE)[1:]


def test_the_base_is_pinned_and_the_same_in_every_stage(root: Path, stages: list[str]) -> None:
    assert re.search(r"^ARG BASE=python:3\.12-slim-[a-z]+$", (root / "Dockerfile").read_text(), re.MULTILINE)
    assert [stage.split()[1] for stage in stages] == ["${BASE}", "dependencies", "${BASE}", "runtime"]


def test_the_last_stage_installs_nothing_and_ends_as_a_user(stages: list[str]) -> None:
    assert not re.search(r"\b(pip|uv|apt|apt-get|curl|wget) ", stages[-1])
    assert re.findall(r"^USER (.*)$", stages[-1], re.MULTILINE) == ["10001:10001"]
    assert 'ENTRYPOINT ["penstock"]' in stages[-1]
    # Dependencies and Penstock are layers of their own.
    assert re.findall(r"^COPY --from=(\w+) (\S+) (\S+)$", stages[-1], re.MULTILINE) == [
        ("dependencies", "/opt/penstock", "/opt/penstock"),
        ("package", "/package", "/opt/penstock"),
    ]


def test_only_images_for_gpus_have_a_compiler(stages: list[str]) -> None:
    """Triton builds what launches its kernels at the first start."""
    (command,) = re.findall(r"^RUN (.*)$", stages[2], re.MULTILINE)
    assert re.match(r'if \[ "\$\{TORCH_BACKEND\}" != cpu \]; then .* gcc libc6-dev .*; *fi$', command)


def test_what_is_copied_exists_and_is_not_ignored(root: Path, stages: list[str]) -> None:
    lines = [line for line in (root / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {
        source
        for stage in stages
        for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", stage, re.MULTILINE)
        for source in sources.split()
    }
    assert copied == let_in
    assert all((root / name).exists() for name in copied)


def test_every_package_is_copied(root: Path, stages: list[str]) -> None:
    targets = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert all(f"COPY {Path(package).parts[0]} " in stages[1] for package in targets["packages"])


def test_the_version_is_the_packages(root: Path) -> None:
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    assert f"ARG VERSION={version}\n" in (root / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Penstock as the image installs it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(root)]
    ran = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    (file,) = folder.glob("*.whl")
    return zipfile.ZipFile(file)


def test_the_wheel_has_every_file_of_the_packages(root: Path, wheel: zipfile.ZipFile) -> None:
    targets = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    expected = {
        file.relative_to((root / package).parent).as_posix()
        for package in targets["packages"]
        for file in (root / package).rglob("*")
        if file.is_file() and not fnmatch.fnmatch(file.as_posix(), "*/__pycache__/*")
    }
    assert expected == {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert "penstock_server/demo_model/model.safetensors" in expected


@pytest.fixture(scope="module")
def site(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked."""
    folder = tmp_path_factory.mktemp("site")
    wheel.extractall(folder)
    return folder


# Mounts what a container mounts: everything read-only, and one folder in memory.
READ_ONLY = 'mount --rbind / / && mount -o remount,bind,ro / && mount -t tmpfs tmpfs "$TMPDIR" && cd / && exec "$@"'


def test_the_wheel_serves_from_a_read_only_file_system(site: Path, tmp_path: Path) -> None:
    environment = installed(site, tmp_path)
    where = [sys.executable, "-c", "import penstock_server; print(penstock_server.__file__)"]
    assert Path(subprocess.check_output(where, env=environment, text=True)).is_relative_to(site)
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", READ_ONLY, "sh"]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, env=environment)
    if tried.returncode != 0:
        pytest.skip(f"no mount namespace to be had here: {tried.stderr.strip()}")
    wrote = subprocess.run([*command, "touch", str(site / "x")], capture_output=True, text=True, env=environment)
    assert "Read-only file system" in wrote.stderr
    serve_once(command, environment)
    assert list(tmp_path.iterdir()) == []


def installed(site: Path, folder: Path) -> dict[str, str]:
    """An environment in which the wheel's packages come before those installed for development."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(site), "HOME": str(site), "TMPDIR": str(folder)}


def serve_once(prefix: list[str], environment: dict[str, str]) -> None:
    """Serve the demo model and ask it once."""
    command = [*prefix, sys.executable, "-m", "penstock_server.cli", "serve", "demo", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        try:
            log = []
            for line in process.stderr:
                log.append(line)
                if listening := re.search(r"Listening on (http://\S+)", line):
                    break
            else:
                pytest.fail("the server did not start:\n" + "".join(log))
            body = {"model": "demo", "prompt": "Once upon a time", "max_tokens": 4}
            reply = httpx.post(f"{listening[1]}/v1/completions", json=body, timeout=WAIT_SECONDS)
            assert reply.json()["usage"]["completion_tokens"] == 4
        finally:
            process.terminate()
            process.wait(WAIT_SECONDS)
