#!/bin/sh
# Train the family of networks that PAG is compared with, one after the other, each from the same dense network:
#     sh examples/tradeoff/train.sh camvid CAMVID runs/camvid-dense MODELS [options of train.py]
# MODELS is the folder of the model files. What is there already is passed over, and a course that was stopped goes on
# from its checkpoint: stop it whenever you like and give the same command again. PYTHON: the interpreter (python).
set -eu
[ $# -ge 4 ] || { sed -n '2,5s/^# //p' "$0" >&2; exit 2; }
task=$1 data=$2 dense=$3 models=$4
shift 4
examples=$(cd "$(dirname "$0")/.." && pwd)
case $task in
camvid) crop='[144, 192]' ;; # smaller than for the dense network: twice as fast, the same for all
bsds) crop='[176, 176]' ;;
*) echo "train.sh: $task: no such family; camvid or bsds" >&2; exit 2 ;;
esac
mkdir -p "$models"

failed() { # CODE of train.py
    [ "$1" -eq 3 ] && echo "stopped; the same command goes on" >&2 || tail -n 3 "$models/$name.log" >&2
    exit "$1"
}
course() { # NAME STAGE MORE...: a course until its end, and its model file
    name=$1 stage=$2
    shift 2
    [ -e "$models/$name.h5" ] && return 0
    echo "$name"
    "${PYTHON:-python}" "$examples/train.py" "$examples/configs/$task.toml" --data "$data" --start "$dense" \
        --work "$models/runs/$name" --stage "$stage" --set "augment.crop=$crop" --bf16 --in-memory \
        --export "$models/$name.h5" "$@" >> "$models/$name.log" 2>&1 || failed $?
}
pool() { # STAGE-OF-THE-PAPER BLOCK MODE
    name=$1 block=$2 mode=$3
    shift 3
    course "$task-pool-$name-$mode" multipool "$@" \
        --set "network.multipool={block=\"$block\", rates=[0, 1, 2, 4, 6, 8, 10], mode=\"$mode\", hidden=[64, 32]}"
}

course "$task-same" same "$@"
for rate in 70 50 90 30; do course "$task-pag$rate" pag "$@" --rho "0.$rate"; done
for rate in 60 50 40 80 90; do course "$task-skip$rate" skip "$@" --rho "0.$rate"; done
for count in 2 1 3; do course "$task-truncate$count" truncate "$@" --set "network.truncate=$count"; done
pool res5 layer4.1 hard "$@"
pool res5 layer4.1 soft "$@"
pool res4 layer3.1 hard "$@"
pool res4 layer3.1 soft "$@"
pool res3 layer2.1 hard "$@"
pool res3 layer2.1 soft "$@"
