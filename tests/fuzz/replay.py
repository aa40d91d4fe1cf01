"""Give every file of the corpus to pagnp: `python tests/fuzz/replay.py`; exit code 1 if one gives something else.

corpus/index.json says of each file which reader it is for, what it must give (a part of the one-line error), and what
it did before pagnp refused it. Run as a process of its own: a file may crash it.
"""

import json
import os
import resource
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

import targets  # noqa: E402

from pagnp import modelfile, statedict  # noqa: E402
from pagnp.errors import PagnpError  # noqa: E402
from pagnp.image import load_image  # noqa: E402

CORPUS = Path(__file__).parent / "corpus"
READERS = {
    "models": modelfile.read,
    "images": load_image,
    "states": lambda path: statedict.load(path, targets.state_cases.ARCH),
}
MEMORY = 512 << 20  # bytes more than the process has before the first file


def main():
    """Replay the corpus; return the exit code."""
    index = json.loads((CORPUS / "index.json").read_text("utf-8"))
    size = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    wrong = 0
    for name, entry in sorted(index.items()):
        print(name, flush=True)  # before it is opened
        path = CORPUS / name
        try:
            READERS[entry["kind"]](os.fspath(path))
            said = "loads"
        except PagnpError as error:
            said = str(error)
        if entry["gives"] not in said or (said != "loads" and not said.startswith(f"{path}: ")):
            print(f"  gives {said!r}, need {entry['gives']!r}")
            wrong += 1
    print(f"{len(index)} files, {wrong} wrong")
    return 1 if wrong or not index else 0


if __name__ == "__main__":
    sys.exit(main())
