"""`python -m pagnp` is the command `pagnp`."""

import sys

from pagnp.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
