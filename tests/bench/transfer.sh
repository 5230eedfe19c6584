#!/usr/bin/env bash
# The README's figures on fine-tuning that transfers. usage: tests/bench/transfer.sh DATA OUT [PART ...]
# DATA holds bdd/ (YOLO; splits train, val, night_val, night_unlabelled), camvid/ (mask pairs) and gtsrb/ (class
# folders, files named track_frame). PARTS: camvid gtsrb bdd adapt several seeds ranked. Some four hours on 2 cores for all.
set -euo pipefail
data=$1 out=$2
shift 2
edgetl=${EDGETL:-.venv/bin/edgetl}
python=${PYTHON:-.venv/bin/python}
mkdir -p "$out"

# Train and val come from three drives, so the 468 images are pooled and cut anew into stretches of 100 frame numbers.
camvid() {
    "$edgetl" data split "$data/camvid" "$out/camvid-data" --from train --from val --shares train=0.9,val=0.1 \
        --group-pattern '^\w+(?=\d\d\b)' --json >"$out/camvid-split.json"
    "$edgetl" tune "$out/camvid-data" --task segment --size 480x384 --crop 448x320 --zoom 0.7,1.8 --epochs 32 \
        --probe-epochs 3 --head-lr 2e-3 --backbone-lr 1e-3 --val-every 8 --val-images 60 \
        --out "$out/camvid" --json >"$out/camvid-tune.json"
    "$edgetl" evaluate "$out/camvid" "$data/camvid" --split test --json >"$out/camvid-test.json"
}

gtsrb() {
    "$edgetl" data split "$data/gtsrb" "$out/gtsrb-data" --from train --shares train=0.9,val=0.1 \
        --group-pattern '^[0-9]+' --json >"$out/gtsrb-split.json"
    "$edgetl" tune "$out/gtsrb-data" --task classify --size 128x128 --batch 32 --epochs 24 --probe-epochs 2 --balance 0.03 \
        --freeze-stride 0 --head-lr 2e-3 --backbone-lr 1.5e-3 --no-average --val-every 3 --val-images 400 \
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
        "$edgetl" tune "$out/roadworld" --size 320x192 --epochs 3 --probe-epochs 2 --head-lr 2e-3 --backbone-lr 1e-3 \
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

# Random, probe, full, probe-then-fine-tune over three seeds, by day, and at night (BDD) or in fog (roadworld).
seeds() {
    "$edgetl" data render "$out/road-day" --images 1300 --val 0.1 --seed 0
    "$edgetl" data render "$out/road-fog" --images 130 --val 0 --seed 1000 --domain fog
    "$python" tests/bench/bench_transfer.py "$out/seeds" "bdd=$data/bdd:train:val:night_val" \
        "roadworld=$out/road-day:train:val:$out/road-fog@train" >"$out/seeds.md"
}

# The order that `rank` gives against the order that fine-tunes give: what the registry has weights of, and none.
# After camvid and gtsrb, whose splits it takes.
ranked() {
    lite=tf_efficientnet_lite
    "$python" tests/bench/bench_rank.py --candidates "${lite}0,${lite}1,${lite}2,${lite}0:none" --images 240 --epochs 3 \
        --out "$out/ranked" "$data/bdd:detect:320x192" "$out/camvid-data:segment:320x256" \
        "$out/gtsrb-data:classify:64x64" >"$out/ranked.jsonl"
}

for part in "${@:-camvid gtsrb bdd adapt several seeds ranked}"; do
    for name in $part; do "$name"; done
done
