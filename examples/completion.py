"""Ask once, get the whole text: python examples/completion.py ["How the text begins"]"""

import os
import sys

from openai import OpenAI

prompt = sys.argv[1] if len(sys.argv) > 1 else "Once upon a time"
client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://localhost:8000/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)
model = client.models.list().data[0].id

reply = client.completions.create(
    model=model,
    prompt=prompt,
    max_tokens=60,
    temperature=0.8,
    seed=1,
    extra_body={"min_p": 0.05},  # fields that OpenAI's API does not have go in here
)

choice = reply.choices[0]
print(prompt + choice.text)
assert reply.usage is not None
print(f"\n{reply.usage.completion_tokens} tokens, ended by {choice.finish_reason}")
