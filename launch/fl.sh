#!/bin/sh
# Trains every defense of launch/fl-*.toml without an attack and under each backdoor, for each seed, and writes a table of main
# and backdoor accuracies to OUT/table.md. Stopped, the same command goes on: finished runs are kept, others resume.
#
# usage: launch/fl.sh [OUT] [ARGUMENT...]      default: runs/fl
#   SEEDS="1 2 3"   the seeds          ATTACKS="none pgd model-replacement"   the attacks
#   DEFENSES="..."  names after fl-    PHALANX=...   the program, default target/release/phalanx
#   further arguments go to each new run, such as --set federated.rounds=100
set -eu

phalanx=${PHALANX:-target/release/phalanx}
out=${1:-runs/fl}
[ $# -eq 0 ] || shift
here=$(dirname "$0")
seeds=${SEEDS:-1 2 3}
attacks=${ATTACKS:-none pgd model-replacement}
defenses=${DEFENSES:-fedavg rfa krum multi-krum flame multi-metrics multi-metrics-rfa}

# client 0, in every tenth round, with a bright pattern on half of its images
backdoor="{kind = 'backdoor', clients = [0], every = 10, share = 0.5, value = 2.0, target = 2}"

attack() {
    case $1 in
    none) echo "" ;;
    pgd) echo "$backdoor, {kind = 'pgd', clients = [0], every = 10, radius = 2.0}" ;;
    model-replacement) echo "$backdoor, {kind = 'model-replacement', clients = [0], every = 10, factor = 10.0}" ;;
    *) echo "unknown attack $1" >&2 && return 1 ;;
    esac
}

# a number of a summary, in percent
figure() {
    sed -n "s/^ *\"$2\": \([0-9.eE-]*\).*/\1/p" "$1/summary.json" | awk '{printf "%.2f", 100 * $1}'
}

run() {
    dir=$out/$1/$2-$3
    if [ -f "$dir/summary.json" ] && ! grep -q '"stopped": true' "$dir/summary.json"; then
        return
    elif ls "$dir/checkpoints/"step-* >/dev/null 2>&1; then
        "$phalanx" federate --resume "$dir"
    else
        attack_of=$(attack "$1") file=$here/fl-$2.toml seed=$3
        shift 3
        mkdir -p "$(dirname "$dir")"
        "$phalanx" federate "$file" --run-dir "$dir" --overwrite --set "seed=$seed" \
            --set "attack=[$attack_of]" "$@"
    fi
}

for seed in $seeds; do
    for attack in $attacks; do
        for defense in $defenses; do
            run "$attack" "$defense" "$seed" "$@"
        done
    done
done

{
    echo "| attack | defense | seed | main accuracy, % | backdoor accuracy, % | hostile caught, % | honest left out, % |"
    echo "|---|---|---:|---:|---:|---:|---:|"
    for attack in $attacks; do
        for defense in $defenses; do
            for seed in $seeds; do
                dir=$out/$attack/$defense-$seed
                echo "| $attack | $defense | $seed | $(figure "$dir" test_accuracy) | $(figure "$dir" backdoor_accuracy) |" \
                    "$(figure "$dir" caught) | $(figure "$dir" wronged) |"
            done
        done
    done
} >"$out/table.md"
echo "$out/table.md"
