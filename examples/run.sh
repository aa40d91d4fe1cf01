#!/bin/sh
# Run the shipped model on the shipped image, or on the images named: sh examples/run.sh [IMAGES and options of pagnp run]
# Makes a virtual environment on the first call; needs Python 3.11 to 3.13 and nothing else.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/venv.sh"
ready_venv ""

[ $# -gt 0 ] || set -- "$root/examples/images/room.png"
"$venv/bin/pagnp" run --weights "$root/examples/models/rooms.h5" --figure --overwrite "$@"
say "the pictures are in $(pwd)/pagnp-out (unless --out named another folder); *.figure.png has all in one"
