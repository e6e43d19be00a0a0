"""A batch without a server: prompts from a file, one a line, each with a strategy of its own, in one batch.

    python examples/offline_batch.py [PROMPTS.txt [MODEL_FOLDER]]

Writes one line of JSON per answer to stdout. The same engine and the same decoding fields as over HTTP.
"""

import json
import sys
from pathlib import Path

from penstock_engine.config import EngineConfig
from penstock_engine.llm import LLM
from penstock_server.serve import DEMO_MODEL
from penstock_server.text.codec import TextCodec

PROMPTS = ["Once upon a time", "The king had a", "One morning, a rabbit"]
DECODING: list[dict[str, object]] = [
    {"decoding": {"strategy": "greedy"}},
    {"temperature": 0.8, "top_p": 0.9, "seed": 1, "n": 2},
    {"decoding": {"strategy": "sample", "chain": [{"penalties": {"repetition": 1.1}}, {"min_p": 0.1}]}, "seed": 2},
]

prompts = Path(sys.argv[1]).read_text().splitlines() if len(sys.argv) > 1 else PROMPTS
folder = Path(sys.argv[2]) if len(sys.argv) > 2 else DEMO_MODEL

llm = LLM(EngineConfig(model=str(folder)), tokenizer=TextCodec.load(folder))
decoding = [DECODING[i % len(DECODING)] for i in range(len(prompts))]
results = llm.generate(prompts, decoding, max_tokens=24, progress=sys.stderr.isatty())
for prompt, result in zip(prompts, results, strict=True):
    for answer in result.answers:
        line = {"prompt": prompt, "text": answer.text, "seed": result.seed, "finish_reason": answer.finish_reason}
        print(json.dumps(line, ensure_ascii=False))
