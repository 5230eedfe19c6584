#!/usr/bin/env bash
# Every figure of the README's table on real driving data. usage: tests/bench/real_driving.sh DATA OUT
# DATA holds bdd/ (a YOLO directory with splits train, val, night_val) and videos/*.mp4. About 45 minutes on 2 cores.
set -euo pipefail
data=$1 out=$2
edgetl=${EDGETL:-.venv/bin/edgetl}
vehicles=(--merge vehicle=car,bus,truck --min-height 16)
mkdir -p "$out"

"$edgetl" tune "$data/bdd" --task detect --crop 448x320 --epochs 8 --val-every 2 --out "$out/run" --json >"$out/tune.json"
"$edgetl" export "$out/run" --out "$out/bundle" --json >"$out/export.json"
"$edgetl" verify "$out/bundle" --json >"$out/verify.json"
for split in val night_val; do
    "$edgetl" evaluate "$out/run" "$data/bdd" --split "$split" "${vehicles[@]}" --json >"$out/torch-$split.json"
    "$edgetl" evaluate "$out/bundle" "$data/bdd" --split "$split" "${vehicles[@]}" --json >"$out/bundle-$split.json"
done
"$edgetl" bench "$out/bundle" --json >"$out/bench.json"
for clip in "$data"/videos/*.mp4; do
    name=$(basename "$clip" .mp4)
    "$edgetl" run "$out/bundle" "$clip" --out "$out/$name.mp4" --jsonl "$out/$name.jsonl" --force --json >"$out/$name.json"
done
