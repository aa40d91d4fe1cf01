"""The command `pagnp`, also as `python -m pagnp`."""

import gc
import sys

UNCOLLECTED = 20_000  # objects, in place of 700: else importing what a run needs sets off some hundred collections


def start():
    """Run the command line of this process and return its exit code."""
    gc.set_threshold(UNCOLLECTED)
    try:
        from pagnp.cli.main import main

        return main()
    except KeyboardInterrupt:  # before `main` was there to catch it
        print("pagnp: interrupted", file=sys.stderr)
        return 130
    finally:
        gc.freeze()  # the collection at exit would walk all that was imported, 0.2 seconds, to free it one by one


if __name__ == "__main__":
    sys.exit(start())
