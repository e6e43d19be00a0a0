"""`tests/gpu_check.py` where no GPU is: what it would run, what that needs, and that nothing is passed over."""

import shutil
import sys
import time
from pathlib import Path

import gpu_check
import pytest
from gpu_check import Job, Outcome, jobs, missing_modules, run

BARE = {"torch", "triton", "numpy", "pytest", "_pytest"}


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has nothing but what the kernels need."""
    monkeypatch.setattr(gpu_check, "_is_there", lambda name: name in BARE or name in sys.stdlib_module_names)


def test_kernels_and_bitwise_need_no_more_than_a_bare_machine_has(bare: None) -> None:
    """But for the batches that hypothesis draws."""
    planned = [job for job in jobs(["kernels", "bitwise"], 1.0) if job.name != "kernels/test_paged_attention_batches"]
    assert planned and all(isinstance(job, Job) for job in planned), [
        job for job in planned if isinstance(job, Outcome)
    ]


def test_what_is_missing_is_named(bare: None) -> None:
    tests = Path(gpu_check.TESTS)
    assert missing_modules(tests / "models" / "test_fused_model.py") == ["tokenizers", "transformers"]
    assert any(isinstance(job, Outcome) and "no module" in job.verdict for job in jobs(["suite"], 1.0))


def test_a_missing_sanitizer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert [job.verdict for job in jobs(["sanitizer"], 1.0) if isinstance(job, Outcome)] == [
        "not run: there is no compute-sanitizer here"
    ]


@pytest.mark.parametrize(
    ("program", "seconds", "verdict"),
    [
        ("print('3 passed')", 60.0, "passed"),
        ("raise SystemExit(1)", 60.0, "failed"),
        ("import signal; signal.pause()", 1.4, "not done after 1 s"),
        ("", 0.0, "no time left"),
    ],
)
def test_verdicts(tmp_path: Path, program: str, seconds: float, verdict: str) -> None:
    job = Job("kernels", "made up", (sys.executable, "-c", program), {}, 60.0)
    outcome = run(job, time.monotonic() + seconds, tmp_path)
    assert outcome.verdict == verdict
    assert outcome.last_line == ("3 passed" if verdict == "passed" else "")
