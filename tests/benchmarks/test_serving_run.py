"""`benchmarks/serving.py` as a user runs it: a process of its own, on the real demo model and on servers gone wrong."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from load.main import INTERRUPTED, main
from load.steady_server import SteadyServer
from loopback_app import loopback
from real_server import Served, serving

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "serving.py"
PATIENCE = 60


def bench(*flags: str, key: str | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    if key is not None:
        environment["PENSTOCK_API_KEY"] = key
    command = [sys.executable, str(SCRIPT), *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, env=environment)


@pytest.fixture(scope="module")
def demo() -> Iterator[Served]:
    with serving("demo", "--api-key", "hush") as served:
        yield served


def test_the_demo_model_is_measured(demo: Served, tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    flags = ["--url", f"{demo.url}/v1", "--concurrency", "1,3", "--num-prompts", "4", "--input-len", "40"]
    flags += ["--output-len", "5", "--warmup", "2", "--goodput", "e2el:60000", "--seed", "9", "--output", str(output)]
    flags += ["--set", 'decoding={"strategy":"sample","chain":[{"temperature":0.7},{"top_k":5}]}']
    before = prefix_hits(demo)
    done = bench(*flags, "--plots", str(tmp_path / "plots"), key="hush")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("Serving Benchmark Result") == 2
    record = json.loads(output.read_text())
    assert record["benchmark"] == "serving" and len(record["commit"]) == 40 and record["machine"]["threads"] >= 1
    assert record["settings"]["model"] == "demo" and record["settings"]["prompt_form"] == "ids"
    assert not record["is_partial"]
    for load in record["loads"]:
        figures = load["figures"]
        assert (figures["num_completed"], figures["num_failed"], figures["num_without_usage"]) == (4, 0, 0)
        # Exact lengths, by the server's own count.
        assert (figures["num_prompt_tokens"], figures["num_output_tokens"]) == (4 * 40, 4 * 5)
        assert figures["good_rate"] == figures["request_rate"] > 0
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        "serving_load.png",
        "serving_timeline_0.png",
        "serving_timeline_1.png",
    }
    assert "hush" not in output.read_text() + done.stdout
    # No prompt of the run was found in the server's prefix cache: loads and warm-ups send different ones.
    assert prefix_hits(demo) == before


def prefix_hits(demo: Served) -> float:
    reply = httpx.get(f"{demo.url}/metrics", headers={"Authorization": "Bearer hush"})
    (found,) = re.findall(r"^penstock_engine_prefix_hit_tokens_total (\S+)$", reply.text, re.MULTILINE)
    return float(found)


def test_chat_and_text_are_measured_with_exact_lengths(demo: Served, tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    flags = ["--url", demo.url, "--api-key", "hush", "--concurrency", "2", "--num-prompts", "3", "--warmup", "0"]
    flags += ["--input-len", "50", "--output-len", "4", "--output", str(output)]
    for more in (["--endpoint", "chat"], ["--prompt-form", "text", "--prompts", "shared-prefix", "--prefix-len", "20"]):
        assert main([*flags, *more]) == 0
        record = json.loads(output.read_text())
        assert record["settings"]["prompt_form"] == "text"
        length = 50 if "chat" in more else 70
        assert record["loads"][0]["figures"]["num_prompt_tokens"] == 3 * length


def test_what_keeps_a_run_from_starting_is_one_line(demo: Served, capsys: pytest.CaptureFixture[str]) -> None:
    keyed = ["--url", demo.url, "--api-key", "hush"]
    for flags, problem in (
        (["--url", demo.url], "/v1/models answers 401: "),
        ([*keyed, "--model", "x"], "refuses the request with 404: "),
        ([*keyed, "--set", "topk=3"], "refuses the request with 400: "),
        ([*keyed, "--vocab-size", "5000", "--prompt-form", "ids"], "--prompt-form: ids: the server refuses token ids"),
        ([*keyed, "--input-len", "5000"], "refuses the request with 400: "),
        ([*keyed, "--endpoint", "chat", "--input-len", "3"], "--input-len: a prompt of 3 tokens cannot be"),
        (["--url", "http://127.0.0.1:1", "--wait", "0"], "no server is ready at http://127.0.0.1:1 (--url)"),
        (["--serve", "llama-1m"], "--serve: there is no shape 'llama-1m', but llama-135m"),
    ):
        assert main(["--no-result", *flags]) == 2
        shown = capsys.readouterr()
        (said,) = [line for line in shown.err.splitlines() if not line.startswith("serving ")]
        assert said.startswith("serving.py: error: ") and problem in said
        assert shown.out == ""


def test_ctrl_c_reports_what_was_measured(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    server = SteadyServer(first_token=0.005, per_token=0.001)
    with loopback(server.app()) as url:
        command = [sys.executable, str(SCRIPT), "--url", url, "--concurrency", "2", "--duration", "3000"]
        command += ["--warmup", "0", "--output-len", "3", "--output", str(output)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            while len(server.served) < 10:
                assert process.poll() is None, "the benchmark ended by itself"
            process.send_signal(signal.SIGINT)
            shown, said = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == INTERRUPTED == 130
    assert said.splitlines() == ["", "stopped: what stands above is a part of what was asked for"]
    assert "Successful requests:" in shown
    record = json.loads(output.read_text())
    assert record["is_partial"]
    assert record["loads"][0]["figures"]["num_completed"] >= 8


def test_a_server_that_fails_every_request_fails_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    async def models(request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m"}]})

    asked = 0

    async def complete(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        if asked <= 2:  # the probe for token ids, and the check of a whole request
            return web.json_response({"choices": [{"text": "a"}], "usage": {"prompt_tokens": 8}})
        return web.json_response({"error": {"message": "out of memory"}}, status=500)

    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/completions", complete)
    with loopback(app) as url:
        flags = ["--url", url, "--concurrency", "1", "--num-prompts", "3", "--warmup", "0", "--no-result"]
        assert main(flags) == 1
    shown = capsys.readouterr().out
    assert "  refused 500:                           3" in shown
    assert "! 3 x refused: out of memory" in shown
    assert "! No request succeeded" in shown
