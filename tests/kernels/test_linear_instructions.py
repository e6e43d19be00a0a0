"""Which tensor core instructions the invariant products compile to. Needs no GPU: the compiler is run for one.

That a row's bits are the same in a tile of 16 rows and in one of 128 rests on both being sums of the same instruction:
of 64 outputs on sm_90 (wgmma), of 16 on sm_80, and always of 16 inputs.
"""

import json
import subprocess
import sys

PROGRAM = """
import json, re, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from penstock_kernels.linear.fused.operands import linear_variants
from penstock_kernels.linear.fused.tiles import configurations

found = {}
variants = [v for v in linear_variants() if v.name in ("bf16 plain bare", "bf16 int8 bare")]
for capability in (80, 90):
    for c in configurations("linear", capability, variants):
        if c.name.endswith("uneven") or c.name.startswith("one segment"):
            continue
        names = c.kernel.arg_names
        source = ASTSource(
            fn=c.kernel,
            signature={name: c.types.get(name, "constexpr") for name in names},
            constexprs={(names.index(name),): value for name, value in c.constants.items()},
            attrs={(names.index(name),): [["tt.divisibility", 16]] for name in c.aligned},
        )
        target = GPUTarget("cuda", capability, 32)
        ptx = triton.compile(
            source, target=target, options={"num_warps": c.num_warps, "num_stages": c.num_stages}
        ).asm["ptx"]
        shapes = re.findall(r"(wgmma\\.mma_async|mma)\\.sync\\.aligned\\.m(\\d+)n\\d+k(\\d+)", ptx)
        found[f"{capability} {c.name}"] = sorted({f"{name} m{m} k{k}" for name, m, k in shapes})
print(json.dumps(found))
"""


def test_the_same_instruction_for_any_number_of_rows() -> None:
    # Its own process: this one may have the interpreter in Triton's place.
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    found: dict[str, list[str]] = json.loads(run.stdout)
    assert len(found) == 2 * 2 * 3
    for name, instructions in found.items():
        assert instructions == (["wgmma.mma_async m64 k16"] if name.startswith("90") else ["mma m16 k16"]), name
