"""Flags, environment, file: one set of names, one order of precedence, nothing unknown."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from penstock_engine.config import EngineConfig
from penstock_server.cli import main
from penstock_server.options import OptionError, options_of, read_options, read_size
from penstock_server.settings import ServerConfig


def test_defaults() -> None:
    assert read_options(["serve", "demo"], {}) == (EngineConfig(model="demo"), ServerConfig())


def test_flags_over_environment_over_file(tmp_path: Path) -> None:
    file = tmp_path / "penstock.toml"
    file.write_text("model = 'from-file'\nport = 1\nmax_rows = 1\nthreads = 1\nkv_cache_memory = '1GiB'\n")
    environment = {"PENSTOCK_MAX_ROWS": "2", "PENSTOCK_THREADS": "2", "HOME": "/", "PENSTOCK_CONFIG": "/nowhere"}
    engine, server = read_options(["serve", "--config", str(file), "--threads", "3"], environment)
    assert (server.port, engine.max_rows, engine.threads, engine.kv_cache_memory) == (1, 2, 3, 2**30)
    assert engine.model == "from-file"
    assert read_options(["serve", "flag"], {"PENSTOCK_MODEL": "variable"})[0].model == "flag"
    assert read_options(["serve"], {"PENSTOCK_CONFIG": str(file)})[1].port == 1


def test_every_kind_of_flag() -> None:
    arguments = "serve m --port 0 --host ::1 --api-key a --api-key b --served-model-name x --drain-timeout 2.5".split()
    arguments += "--kv-cache-memory 512MiB --no-prefix-caching --log-requests --dtype float32 --revision=v1".split()
    engine, server = read_options(arguments, {})
    assert (server.port, server.host, server.api_key, server.served_model_name) == (0, "::1", ("a", "b"), ("x",))
    assert (server.drain_timeout, server.log_requests) == (2.5, True)
    assert (engine.kv_cache_memory, engine.prefix_caching, engine.dtype, engine.revision) == (
        2**29,
        False,
        "float32",
        "v1",
    )


def test_every_kind_of_variable_and_key(tmp_path: Path) -> None:
    environment = {
        "PENSTOCK_API_KEY": "a,b",
        "PENSTOCK_PREFIX_CACHING": "false",
        "PENSTOCK_MAX_REQUEST_BYTES": "4MiB",
        "PENSTOCK_DRAIN_TIMEOUT": "3",
    }
    engine, server = read_options(["serve", "m"], environment)
    assert (server.api_key, server.max_request_bytes, server.drain_timeout) == (("a", "b"), 2**22, 3.0)
    assert not engine.prefix_caching
    file = tmp_path / "x.toml"
    file.write_text("api_key = ['a', 'b']\nprefix_caching = false\nmax_request_bytes = 4194304\ndrain_timeout = 3\n")
    assert read_options(["serve", "m", "--config", str(file)], {}) == (engine, server)


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (["--prot", "1"], {}, "unknown argument --prot; did you mean --port?"),
        ([], {"PENSTOCK_PROT": "1"}, "PENSTOCK_PROT; did you mean PENSTOCK_PORT?"),
        ([], {"PENSTOCK_PORT": "x"}, "PENSTOCK_PORT must be a whole number, not 'x'"),
        ([], {"PENSTOCK_PORT": "-1"}, "must be zero or more"),
        ([], {"PENSTOCK_DRAIN_TIMEOUT": "inf"}, "must be zero or more"),
        ([], {"PENSTOCK_DTYPE": "int3"}, "must be one of auto"),
        ([], {"PENSTOCK_LOG_REQUESTS": "perhaps"}, "true or false"),
        (["--config", "/nowhere.toml"], {}, "cannot read /nowhere.toml"),
    ],
)
def test_refused_by_name(arguments: list[str], environment: dict[str, str], told: str) -> None:
    with pytest.raises(OptionError) as raised:
        read_options(["serve", "m", *arguments], environment)
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("prot = 1", "unknown key prot; did you mean port?"),
        ("port = '1'", "port has the wrong type: '1'"),
        ("port = true", "port has the wrong type: True"),
        ("port = -1", "port must be zero or more"),
        ("kv_cache_memory = '4 gigs'", "must be a number of bytes like 512MiB or 4GiB, not '4 gigs'"),
        ("api_key = [1]", "api_key has the wrong type: 1"),
        ("port =", "is not TOML"),
        ("[server]\nport = 1", "unknown key server"),
    ],
)
def test_a_files_faults_are_told_by_key(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "x.toml"
    file.write_text(content)
    with pytest.raises(OptionError) as raised:
        read_options(["serve", "m", "--config", str(file)], {})
    assert told in str(raised.value) and str(file) in str(raised.value)


def test_a_model_is_needed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENSTOCK_MODEL", raising=False)
    assert main(["serve"]) == 1
    assert capsys.readouterr().err.startswith("penstock: no model")


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("123", 123), ("1KiB", 1024), ("1.5 GiB", 3 * 2**29), ("4gb", 4 * 10**9), ("2B", 2)]
)
def test_sizes(text: str, size: int) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1XB", "1 2", "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(OptionError):
        read_size(text)


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["serve", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as raised:
            main(arguments)
        assert raised.value.code == 0
    printed = capsys.readouterr().out
    for config in (EngineConfig, ServerConfig):
        for option in options_of(config):
            assert option.name == "model" or option.flag in printed
    assert "(default: 127.0.0.1)" in printed and "(default: 16MiB)" in printed and "penstock " in printed


def test_configs_share_no_name() -> None:
    names = [field.name for config in (EngineConfig, ServerConfig) for field in dataclasses.fields(config)]
    assert len(names) == len(set(names)) and "config" not in names


def test_the_command_line_loads_neither_torch_nor_the_web_framework() -> None:
    code = "import sys, penstock_server.cli; print([m for m in ('torch', 'fastapi', 'triton') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_server_never_loads_torch() -> None:
    code = (
        "import sys, penstock_server.serve; print([m for m in ('torch', 'triton', 'transformers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
