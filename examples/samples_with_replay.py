"""Several answers to one prompt, then the same ones again from the seed that the reply stated.

The request names no seed, so the server draws one and says which. Asked with it, the answers come back the same,
and fewer answers of the same seed are the first of them.
"""

import os

from openai import OpenAI
from openai.types import Completion

PROMPT = "One day, the little fox"

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://localhost:8000/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)
model = client.models.list().data[0].id


def sample(num_answers: int, seed: int | None = None) -> Completion:
    return client.completions.create(
        model=model, prompt=PROMPT, max_tokens=20, temperature=0.8, n=num_answers, seed=seed
    )


def texts(reply: Completion) -> list[str]:
    return [choice.text for choice in sorted(reply.choices, key=lambda choice: choice.index)]


first = sample(4)
seed = first.model_extra["seed"] if first.model_extra else None
if seed is None:
    raise SystemExit("this server does not say which seed it used, so its answers cannot be replayed")
for text in texts(first):
    print("-", " ".join((PROMPT + text).split()))

again = sample(4, seed)
fewer = sample(2, seed)
print(f"\nseed {seed}")
print("the same four again:", texts(again) == texts(first))
print("two of that seed are the first two:", texts(fewer) == texts(first)[:2])
