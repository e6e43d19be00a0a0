"""What the compiler makes of attention: tiles of few and of many rows must multiply a row alike, to have equal bits."""

import json
import os
import subprocess
import sys

import pytest

# In a process of its own: here the kernels are interpreted. Prints the matrix instructions and the layouts of rows.
COMPILE = """
import json, re, sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from penstock_kernels.paged_attention.fused import configurations

capability = int(sys.argv[1])
found = {}
for c in configurations(capability):
    if c.name not in ("split bf16 cache bf16 head 64", "whole bf16 cache bf16 head 64"):
        continue
    # One split at a time is combined: what is not looked at here compiles faster.
    constants = {**c.constants, "COMBINE_SPLITS": 1}
    names = c.kernel.arg_names
    source = ASTSource(
        fn=c.kernel,
        signature={name: "constexpr" if name in constants else c.types[name] for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in c.aligned},
    )
    options = {"num_warps": c.num_warps, "num_stages": c.num_stages, **c.options}
    asm = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options).asm
    found[c.name.split()[0]] = {
        "instructions": sorted(set(re.findall(r"(?:wgmma[.]mma_async|mma[.]sync)[.\\w]*", asm["ptx"]))),
        "warps": sorted(set(re.findall(r"nvidia_mma<.*?warpsPerCTA = \\[([\\d, ]+)\\]", asm["ttgir"]))),
    }
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    ("capability", "instruction"),
    [
        (80, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"),
        (90, "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16"),
    ],
)
def test_rows_are_multiplied_alike_in_tiles_of_64_and_128(capability: int, instruction: str) -> None:
    """By the same instruction, and with a row's keys in one warp, so that their weights are added in the same order."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", COMPILE, str(capability)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["split"] == {"instructions": [instruction], "warps": ["4, 1"]}
    assert found["whole"] == {"instructions": [instruction], "warps": ["8, 1"]}
