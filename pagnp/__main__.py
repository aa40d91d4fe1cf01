"""The command `pagnp`, also as `python -m pagnp`."""

import sys


def start():
    """Run the command line of this process and return its exit code."""
    try:
        from pagnp.cli.main import main

        return main()
    except KeyboardInterrupt:  # before `main` was there to catch it
        print("pagnp: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(start())
