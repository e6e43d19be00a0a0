"""How sure was the model of each token, and what else did it consider?

The log-probabilities are the model's own, before temperature and filters: natural logarithms of a softmax over the
whole vocabulary. Their mean gives the perplexity of the answer.
"""

import math
import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://localhost:8000/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)
model = client.models.list().data[0].id

reply = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": "What is 2 plus 3?"}],
    max_tokens=20,
    temperature=0,
    logprobs=True,
    top_logprobs=3,
)
logprobs = reply.choices[0].logprobs
assert logprobs is not None and logprobs.content is not None

print(f"{'token':<12} {'probability':>11}   instead of")
for token in logprobs.content:
    others = [other for other in token.top_logprobs if other.token != token.token]
    listed = ", ".join(f"{other.token!r} {math.exp(other.logprob):.1%}" for other in others)
    print(f"{token.token!r:<12} {math.exp(token.logprob):>11.1%}   {listed}")

mean = sum(token.logprob for token in logprobs.content) / len(logprobs.content)
print(f"\nperplexity {math.exp(-mean):.3f} over {len(logprobs.content)} tokens")
