#!/usr/bin/env bash
# The README's figures on fine-tuning that transfers. usage: tests/bench/transfer.sh DATA OUT [PART ...]
# DATA holds bdd/ (YOLO; splits train, val, night_val, night_unlabelled), camvid/ (mask pairs) and gtsrb/ (class
# folders, files named track_frame). PARTS: camvid gtsrb bdd adapt several. About two hours on 2 cores for all.
set -euo pipefail
data=$1 out=$2
shift 2
edgetl=${EDGETL:-.venv/bin/edgetl}
mkdir -p "$out"

camvid() {
    "$edgetl" tune "$data/camvid" --task segment --size 480x384 --crop 448x320 --zoom 0.7,1.8 --epochs 40 \
        --probe-epochs 3 --head-lr 2e-3 --backbone-lr 1e-3 --val-every 5 --val-images 101 \
        --out "$out/camvid" --json >"$out/camvid-tune.json"
    "$edgetl" evaluate "$out/camvid" "$data/camvid" --split test --json >"$out/camvid-test.json"
}

gtsrb() {
    "$edgetl" data split "$data/gtsrb" "$out/gtsrb-data" --from train --shares train=0.9,val=0.1 \
        --group-pattern '^[0-9]+' --json >"$out/gtsrb-split.json"
    "$edgetl" tune "$out/gtsrb-data" --task classify --size 96x96 --batch 32 --epochs 15 --probe-epochs 3 --balance 0.03 \
        --freeze-stride 0 --head-lr 2e-3 --backbone-lr 1e-3 --val-every 5 --val-images 400 \
        --group-pattern '^[0-9]+' --out "$out/gtsrb" --json >"$out/gtsrb-tune.json"
    "$edgetl" evaluate "$out/gtsrb" "$data/gtsrb" --split test --json >"$out/gtsrb-test.json"
}

vehicles=(--merge vehicle=car,bus,truck --min-height 16)
bdd() {
    "$edgetl" tune "$data/bdd" --task detect --crop 448x320 --epochs 8 --val-every 2 \
        --out "$out/bdd" --json >"$out/bdd-tune.json"
    for split in val night_val; do
        "$edgetl" evaluate "$out/bdd" "$data/bdd" --split "$split" "${vehicles[@]}" --json >"$out/bdd-$split.json"
    done
}

adapt() {
    "$edgetl" adapt "$out/bdd" "$data/bdd:night_unlabelled" --crop 448x320 --force \
        --out "$out/bdd-night" --json >"$out/bdd-adapt.json"
    for split in val night_val; do
        "$edgetl" evaluate "$out/bdd-night" "$data/bdd" --split "$split" "${vehicles[@]}" --json >"$out/adapted-$split.json"
    done
}

several() {
    "$edgetl" data render "$out/roadworld" --images 800 --seed 0
    "$edgetl" data render "$out/roadworld-test" --images 120 --val 0 --seed 1000
    one() { # NAME ARGUMENT...
        "$edgetl" tune "$out/roadworld" --size 320x192 --epochs 4 --probe-epochs 3 --head-lr 2e-3 --backbone-lr 1e-3 \
            --zoom 0.8,1.4 --val-images 64 "${@:2}" --out "$out/several-$1" --json >"$out/several-$1-tune.json"
        "$edgetl" evaluate "$out/several-$1" "$out/roadworld-test" --split train --json >"$out/several-$1-test.json"
        "$edgetl" export "$out/several-$1" --out "$out/several-$1.bundle" --targets cpu --json >"$out/several-$1-export.json"
        "$edgetl" bench "$out/several-$1.bundle" --json >"$out/several-$1-bench.json"
    }
    one all --task detect,segment --layers drivable,lanes
    one boxes --task detect
    one drivable --task segment --layers drivable
    one lanes --task segment --layers lanes
}

for part in "${@:-camvid gtsrb bdd adapt several}"; do
    for name in $part; do "$name"; done
done
