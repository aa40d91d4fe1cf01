#!/bin/sh
# Run the tests: sh tests/run.sh [arguments of pytest]
# Makes a virtual environment on the first call; tests that compare with PyTorch are skipped unless it is in there.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/venv.sh"
ready_venv test

cd "$root"
# The installed package is what is tested: the script `pytest`, unlike `python -m pytest`, does not add this folder.
exec "$venv/bin/pytest" "$@"
