"""Run a command; print its wall time and the most memory it had: python launch.py COMMAND ARGUMENT...

A small process of its own: what Linux reports of a child's memory is never less than what the parent had.
"""

import json
import resource
import subprocess
import sys
import time

start = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
seconds = time.perf_counter() - start
unit = 1 if sys.platform == "darwin" else 1024
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
error = done.stderr.decode(errors="replace")[-2000:]
print(json.dumps({"code": done.returncode, "seconds": seconds, "peak": peak, "error": error}))
