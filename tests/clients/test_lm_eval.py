"""lm-eval's models for completion and chat servers, on the small tasks of tasks/: it gets what transformers says.

It asks for log-likelihoods as OpenAI's older API allowed: `echo` with `logprobs` and one token more, whose column it
leaves out. Greedy it takes a token to be whose log-probability *equals* the largest that is told.
"""

import importlib
import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from real_server import Served, serving

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="the package lm-eval is not installed"),
    pytest.mark.filterwarnings("ignore"),  # its own, and those of what it imports
]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROGRAM = Path(os.environ.get("PENSTOCK_PROGRAM", ROOT / ".venv" / "bin" / "penstock"))
LENGTH = 1024
LIKELIHOODS = ("choices", "endings", "texts")
TOLERANCE = 1e-3  # nats


class Exact(NamedTuple):
    """What transformers says: of each context and continuation its log-likelihood and whether it is greedy; greedily
    to each of the questions of answers.jsonl, as a text and as a chat."""

    likelihoods: dict[tuple[str, str], tuple[float, bool]]
    completions: list[str]
    chats: list[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model with a tokenizer that puts no token before a text: lm-eval counts a context's tokens without one,
    so that texts sent as such are scored wrong with one that does (as with any server)."""
    folder = tmp_path_factory.mktemp("models") / "bare"
    shutil.copytree(ROOT / "server" / "penstock_server" / "demo_model", folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer | {"post_processor": None}))
    return folder


@pytest.fixture(scope="module")
def bare(folder: Path) -> Iterator[Served]:
    with serving(str(folder), "--dtype", "float32", program=PROGRAM) as served:
        yield served


@pytest.fixture
def evaluate(
    folder: Path, bare: Served, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Run tasks with a model of lm-eval; the samples of each, with what was asked and answered."""
    home = tmp_path_factory.mktemp("huggingface")
    for name, value in {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(HERE / "tasks")  # where the tasks look for their data
    # Not before: what it imports reads its settings then.
    lm_eval, lm_eval_tasks = map(importlib.import_module, ("lm_eval", "lm_eval.tasks"))

    def run(model: str, route: str, tasks: tuple[str, ...], *, is_chat: bool = False, **arguments: Any) -> Any:
        done = lm_eval.simple_evaluate(
            model=model,
            model_args={
                "model": "bare",
                "base_url": f"{bare.url}{route}",
                "max_length": LENGTH,
                "max_retries": 1,
                **arguments,
            },
            tasks=list(tasks),
            task_manager=lm_eval_tasks.TaskManager(include_path=".", include_defaults=False),
            apply_chat_template=is_chat,
            bootstrap_iters=0,
        )
        assert done is not None
        return done

    return run


@pytest.fixture(scope="module")
def exact(folder: Path) -> Exact:
    """What transformers says to all that the tasks ask, in the project's own virtual environment."""
    questions, texts = [row["question"] for row in lines("answers")], [row["text"] for row in lines("texts")]
    pairs = [
        *((row["question"], f" {choice}") for row in lines("choices") for choice in row["choices"]),
        *(("", text) for text in texts),
        *map(last_word, texts),
    ]
    prompts = [
        *({"text": question} for question in questions),
        *({"messages": [{"role": "user", "content": question}]} for question in questions),
    ]
    # As answers.yaml has it.
    limits = {"until": ["\n", " danced", " cosy"], "max_tokens": 40}
    asked = {"folder": str(folder), "pairs": pairs, "prompts": [prompt | limits for prompt in prompts]}
    done = subprocess.run(
        [PROGRAM.parent / "python", HERE / "exact_model.py"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    answers = told["answers"]
    return Exact(
        dict(zip(pairs, map(tuple, told["likelihoods"]), strict=True)),
        answers[: len(questions)],
        answers[len(questions) :],
    )


def last_word(text: str) -> tuple[str, str]:
    """As endings.yaml cuts a text."""
    head, _, last = text.rpartition(" ")
    return head, f" {last}"


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / "tasks" / f"{name}.jsonl").read_text().splitlines()]


def samples(done: Any, task: str) -> list[dict[str, Any]]:
    """Of each line of the task's data, in its order."""
    told: list[dict[str, Any]] = sorted(done["samples"][task], key=lambda sample: int(sample["doc_id"]))
    return told


WAYS: dict[str, dict[str, Any]] = {
    "token ids": {"tokenized_requests": True},
    "texts": {"tokenized_requests": False},
    "several prompts a request": {"tokenized_requests": True, "batch_size": 4},
    "several requests at once": {"tokenized_requests": False, "num_concurrent": 8},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_log_likelihoods(evaluate: Any, folder: Path, exact: Exact, way: dict[str, Any]) -> None:
    done = evaluate("local-completions", "/v1/completions", LIKELIHOODS, tokenizer=str(folder), **way)
    rights = []
    for sample, row in zip(samples(done, "choices"), lines("choices"), strict=True):
        pairs = [(row["question"], f" {choice}") for choice in row["choices"]]
        values, are_greedy = zip(*(pair for (pair,) in sample["resps"]), strict=True)
        wanted = [exact.likelihoods[pair][0] for pair in pairs]
        assert list(values) == pytest.approx(wanted, rel=0, abs=TOLERANCE)
        assert list(are_greedy) == [exact.likelihoods[pair][1] for pair in pairs]
        rights.append(wanted.index(max(wanted)) == row["answer"])
        assert sample["acc"] == rights[-1]
    assert 0 < sum(rights) < len(rights), "a task that tells models apart"
    assert done["results"]["choices"]["acc,none"] == sum(rights) / len(rights)

    greedy = []
    for sample, row in zip(samples(done, "endings"), lines("texts"), strict=True):
        (((value, is_greedy),),) = sample["resps"]
        wanted_value, is_wanted = exact.likelihoods[last_word(row["text"])]
        assert value == pytest.approx(wanted_value, rel=0, abs=TOLERANCE)
        assert is_greedy == is_wanted == sample["acc"]
        greedy.append(is_greedy)
    assert 0 < sum(greedy) < len(greedy)

    for sample, row in zip(samples(done, "texts"), lines("texts"), strict=True):
        ((value,),) = sample["resps"]
        assert value == pytest.approx(exact.likelihoods["", row["text"]][0], rel=0, abs=TOLERANCE)


@pytest.mark.parametrize("way", ["token ids", "several prompts a request", "several requests at once"])
def test_generations(evaluate: Any, folder: Path, exact: Exact, way: str) -> None:
    done = evaluate("local-completions", "/v1/completions", ("answers",), tokenizer=str(folder), **WAYS[way])
    assert [sample["resps"] for sample in samples(done, "answers")] == [[[said]] for said in exact.completions]


def test_generations_of_a_chat(evaluate: Any, exact: Exact) -> None:
    done = evaluate("local-chat-completions", "/v1/chat/completions", ("answers",), is_chat=True)
    assert [sample["resps"] for sample in samples(done, "answers")] == [[[said]] for said in exact.chats]
    rights = [said == row["answer"] for said, row in zip(exact.chats, lines("answers"), strict=True)]
    assert 0 < sum(rights) < len(rights)
    assert done["results"]["answers"]["exact_match,none"] == sum(rights) / len(rights)
