"""docker-compose.yml keeps what it promises, and Compose itself can read it with every profile."""

import dataclasses
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock_engine.config import EngineConfig
from penstock_server.settings import ServerConfig

SERVERS = ("penstock", "penstock-gpu")

# The compose file decides these itself.
FIXED = {"model", "host", "port"}


@pytest.fixture(params=["penstock", "penstock-gpu", "prometheus", "grafana"])
def service(request: pytest.FixtureRequest, compose: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = compose["services"][request.param]
    return content


def test_there_are_no_other_services(compose: dict[str, Any]) -> None:
    profiles = {name: service.get("profiles", []) for name, service in compose["services"].items()}
    assert profiles == {"penstock": [], "penstock-gpu": ["gpu"], "prometheus": ["observe"], "grafana": ["observe"]}


def test_a_service_can_change_nothing_but_its_volume(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"] and "cap_add" not in service and "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    user, _, group = service["user"].partition(":")
    assert user.isdigit() and int(user) > 0 and group.isdigit()


def test_a_service_is_published_on_loopback_unless_told(service: dict[str, Any]) -> None:
    (port,) = service["ports"]
    assert re.fullmatch(r"(127\.0\.0\.1|\$\{BIND:-127\.0\.0\.1\}):\$\{\w+:-\d+\}:\d+", port)


def test_a_service_says_whether_it_is_well(service: dict[str, Any]) -> None:
    check = service["healthcheck"]
    assert check.keys() == {"test", "interval", "timeout", "retries", "start_period"}
    # No argument with a space in it: Podman 4 takes such a one apart.
    assert check["test"][0] == "CMD" and not any(" " in word for word in check["test"])


def test_a_service_mounts_what_exists(service: dict[str, Any], compose: dict[str, Any], root: Path) -> None:
    for volume in service["volumes"]:
        source, target, *mode = volume.split(":")
        assert target.startswith("/")
        if source.startswith("./"):
            assert (root / source).exists() and mode == ["ro"]
        else:
            assert source in compose["volumes"]


def test_images_of_others_are_pinned(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        if "build" not in service:
            assert re.fullmatch(r"[\w/.-]+:v?\d+\.\d+\.\d+", service["image"])


@pytest.mark.parametrize("name", SERVERS)
def test_the_server_gets_every_setting(name: str, compose: dict[str, Any]) -> None:
    passed = {variable for variable in compose["services"][name]["environment"] if variable.startswith("PENSTOCK_")}
    fields = {field.name for config in (EngineConfig, ServerConfig) for field in dataclasses.fields(config)}
    assert passed == {f"PENSTOCK_{name.upper()}" for name in fields - FIXED}


@pytest.mark.parametrize("name", SERVERS)
def test_the_server_may_drain(name: str, compose: dict[str, Any]) -> None:
    grace = compose["services"][name]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > ServerConfig().drain_timeout


@pytest.mark.parametrize("name", SERVERS)
def test_prometheus_finds_either_server_as_penstock(name: str, compose: dict[str, Any], root: Path) -> None:
    names = [name, *compose["services"][name].get("networks", {}).get("default", {}).get("aliases", [])]
    (group,) = yaml.safe_load((root / "deploy/prometheus/targets.yml").read_text())
    command = compose["services"][name]["command"]
    assert group["targets"] == [f"penstock:{command[command.index('--port') + 1]}"] and "penstock" in names


def test_the_gpu_image_differs_in_torch_and_gets_a_gpu(compose: dict[str, Any]) -> None:
    cpu, gpu = (compose["services"][name] for name in SERVERS)
    assert (cpu["build"]["args"], gpu["build"]["args"]) == ({"TORCH_BACKEND": "cpu"}, {"TORCH_BACKEND": "cu130"})
    assert cpu["image"] != gpu["image"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


def test_the_grafana_that_is_open_to_all_lets_them_only_look(compose: dict[str, Any]) -> None:
    environment = compose["services"]["grafana"]["environment"]
    assert (environment["GF_AUTH_ANONYMOUS_ENABLED"], environment["GF_AUTH_ANONYMOUS_ORG_ROLE"]) == ("true", "Viewer")
    assert (environment["GF_AUTH_DISABLE_LOGIN_FORM"], environment["GF_AUTH_BASIC_ENABLED"]) == ("true", "false")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], {"penstock"}),
        (["--profile", "gpu"], {"penstock", "penstock-gpu"}),
        (["--profile", "observe"], {"penstock", "prometheus", "grafana"}),
        (["--profile", "gpu", "--profile", "observe"], {"penstock", "penstock-gpu", "prometheus", "grafana"}),
    ],
    ids=lambda value: "-".join(value[1::2]) or "plain" if isinstance(value, list) else "",
)
def test_compose_reads_it(flags: list[str], expected: set[str], root: Path, tmp_path: Path) -> None:
    services = set(composed(["config", "--services"], flags, root, tmp_path, {}).split())
    # The old docker-compose lists the services of every profile.
    assert services == expected if compose_command()[1:] else services >= expected


def test_compose_puts_the_variables_in(root: Path, tmp_path: Path) -> None:
    asked = {
        "MODEL": "org/name",
        "PORT": "9000",
        "BIND": "0.0.0.0",
        "PENSTOCK_API_KEY": "k",
        "PENSTOCK_DTYPE": "float32",
    }
    service = yaml.safe_load(composed(["config"], [], root, tmp_path, asked))["services"]["penstock"]
    assert service["command"][:2] == ["serve", "org/name"]
    assert "9000" in str(service["ports"]) and "0.0.0.0" in str(service["ports"])
    assert (service["environment"]["PENSTOCK_API_KEY"], service["environment"]["PENSTOCK_DTYPE"]) == ("k", "float32")
    assert service["environment"]["PENSTOCK_THREADS"] is None


def composed(command: list[str], flags: list[str], root: Path, folder: Path, environment: dict[str, str]) -> str:
    """What Compose prints, whichever of its two commands is here. No engine is needed to read a file."""
    # Nothing of the caller's own settings: neither the shell's nor those of a .env beside the file.
    (folder / "empty").touch()
    file = ["--project-directory", str(root), "--env-file", str(folder / "empty")]
    file += ["--file", str(root / "docker-compose.yml")]
    ran = subprocess.run(
        [*compose_command(), *file, *flags, *command],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | environment,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def compose_command() -> list[str]:
    """Compose as docker's plugin, or the old program of its own."""
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True).returncode == 0:
        return [docker, "compose"]
    old = shutil.which("docker-compose")
    if old is None:
        pytest.skip("neither `docker compose` nor docker-compose is installed")
    return [old]
