"""Run one call of a network in a fresh process and measure what memory it takes."""

import os
import subprocess
import sys

import pytest

needs_proc = pytest.mark.skipif(
    not os.path.exists("/proc/self/clear_refs"), reason="resident memory is measured as Linux tells it"
)

# Prints the planner's bytes, by how much the peak of resident memory grew during one call, and the whole image's plan.
CODE = """
import sys, numpy as np, pagnp, test_memory
h, w, tile = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) or None
options = dict.fromkeys(sys.argv[4:], True)
model = pagnp.Model(test_memory.network(), threads=2)
pixels = np.random.default_rng(0).integers(0, 256, (h, w, 3), dtype=np.uint8)
model(pixels[:64, :64].copy(), tile=tile and 32, **options)  # loads the kernels
planned = model.plan((h, w), tile=tile, **options).bytes

def resident(field):
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(field))

with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak starts anew
before = resident("VmRSS")
result = model(pixels, tile=tile, **options)
print(planned, resident("VmHWM") - before, model.plan((h, w)).bytes)
"""


def check_memory(h, w, *options, tile=0):
    """Hold the bytes that a call takes against its plan; return (planned, what the plan of the whole image says)."""
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(h), str(w), str(tile), *options],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    planned, grown, whole = map(int, done.stdout.split())
    assert grown <= 1.3 * planned, f"planned {planned / 2**20:.1f} MiB, took {grown / 2**20:.1f}"
    assert planned <= 1.5 * grown, f"planned {planned / 2**20:.1f} MiB, took only {grown / 2**20:.1f}"
    return planned, whole
