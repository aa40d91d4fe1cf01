"""Run the random conformance tests at scale on every code path of this CPU, and write one log.

    python tools/conformance.py 20000                     20000 configurations and 500 graphs on each path
    python tools/conformance.py 20000 --paths avx2,no-fma --seed 20000 --log conformance.log

A path is what Numba compiles for: all this CPU has, or less, forced through NUMBA_CPU_NAME and NUMBA_CPU_FEATURES in a
process of its own with a kernel cache of its own. The exit code is 1 if a bit differs or a path cannot be run here.
"""

import argparse
import datetime
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = tuple(f"tests/test_random_{what}.py" for what in ("cases", "multipool", "graphs"))

# name: (what the CPU must have, NUMBA_CPU_NAME, NUMBA_CPU_FEATURES, lanes of a vector then, fma in hardware)
PATHS = {
    "avx512": ("avx512f", None, None, 16, True),
    "avx2": ("avx2", "haswell", "+sse4.1,+sse4.2,+avx,+avx2,+fma,+bmi,+bmi2,+popcnt,-avx512f", 8, True),
    "no-fma": ("sse4.2", "nehalem", "+sse4.1,+sse4.2,+popcnt,-avx,-avx2,-fma,-avx512f", 4, False),
    "native": (None, None, None, None, None),
}
PROBE = (
    "from pagnp.backends.numba_cpu.microkernel import TILES; from pagnp.backends.numba_cpu.vectorcode import "
    "has_fma_unit; print(TILES[0][2], has_fma_unit())"
)


def environment(path, cache):
    """Return the environment variables of a path."""
    _, cpu, features, _, _ = PATHS[path]
    forced = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features} if cpu else {}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_CPU")}
    found = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))  # the sources beside this script
    return {**kept, **forced, "PAGNP_CACHE_DIR": str(cache / path), "PYTHONPATH": found}


def refusal(path, variables):
    """Return why a path cannot be run on this CPU, or None."""
    import llvmlite.binding

    needed, _, _, lanes, fma = PATHS[path]
    if needed and not llvmlite.binding.get_host_cpu_features().get(needed):
        return f"this CPU has no {needed}"
    probe = subprocess.run([sys.executable, "-c", PROBE], env=variables, capture_output=True, text=True, check=True)
    if lanes and probe.stdout.split() != [str(lanes), str(fma)]:
        return f"Numba compiled for {probe.stdout.strip()} (lanes, fma), wanted {lanes} {fma}"
    return None


def run(path, options, variables, log):
    """Run the tests on one path into the log and to the terminal; return pytest's exit code and its last lines."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations-min=60", *TESTS]
    command += ["--conformance", str(options.count), "--conformance-seed", str(options.seed)]
    lines = []
    with subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            log.write(line)
            log.flush()
            sys.stdout.write(line)
            sys.stdout.flush()
            lines.append(line)
    return process.returncode, [line for line in lines if line.startswith(("conformance:", "code path:"))]


def cpu_name():
    """Return the CPU's name as the system tells it."""
    try:
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        return names[0].partition(":")[2].strip()
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, help="op configurations on each path; a graph comes with every 40")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--paths", default="avx512,avx2,no-fma", help=f"some of {','.join(PATHS)}")
    parser.add_argument("--log", default="conformance.log", help="file for all output (default conformance.log)")
    options = parser.parse_args(arguments)
    options.paths = options.paths.split(",")
    if unknown := set(options.paths) - set(PATHS):
        parser.error(f"no such path: {', '.join(sorted(unknown))}")
    return options


def main(arguments=None):
    options, summary, failed = parse(arguments), [], False
    with open(options.log, "w") as log, tempfile.TemporaryDirectory() as cache:
        for path in options.paths:
            variables, start = environment(path, Path(cache)), time.monotonic()
            code, told = 1, [refusal(path, variables)]
            if not told[0]:
                code, told = run(path, options, variables, log)
            failed |= code != 0
            summary += [f"{path}: {'all bits agree' if code == 0 else 'FAILED'}, {time.monotonic() - start:.0f} s"]
            summary += [f"  {line.strip()}" for line in told]
        now = datetime.datetime.now().astimezone().isoformat(timespec="minutes")
        command = f"python tools/conformance.py {' '.join(arguments or sys.argv[1:])}"
        text = "\n".join([f"{command}; {now}; {cpu_name()}; {platform.platform()}", *summary, ""])
        log.write(text)
    print(text, end="")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
