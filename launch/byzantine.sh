#!/bin/sh
# Trains every rule of launch/byzantine under every attack, and writes a page an attack to OUT. Stopped, the same command
# goes on: finished runs are kept.
#
# usage: launch/byzantine.sh [OUT]      default: runs/byzantine
#   HOSTILE="8 9"   the ranks that lie          SEEDS=1,2,3   the seeds
#   RULES="..."     names of launch/byzantine, default all of them
#   PHALANX=...     the program, default target/release/phalanx
#   more arguments for `phalanx experiment` follow OUT, such as --set train.steps=100
set -eu

phalanx=${PHALANX:-target/release/phalanx}
out=${1:-runs/byzantine}
[ $# -eq 0 ] || shift
ranks=$(echo "${HOSTILE:-8 9}" | sed 's/  */, /g')
here=$(dirname "$0")

under() {
    name=$1
    attack=$2
    shift 2
    "$phalanx" experiment "$rules" --seeds "${SEEDS:-1}" --runs "$out/$name" --output "$out/$name.md" \
        --title "Rules under attack: $name, ranks $ranks of 10" --set "attack=[$attack]" "$@"
}

mkdir -p "$out"
rules=$here/byzantine
if [ -n "${RULES:-}" ]; then
    rules=$(mktemp -d)
    trap 'rm -r "$rules"' EXIT
    for rule in $RULES; do
        cp "$here/byzantine/$rule.toml" "$rules"
    done
fi
under none "" "$@"
for attack in sign-flip opt-ipm alie opt-alie min-max min-sum mimic label-flip gaussian zero nan; do
    under "$attack" "{kind = '$attack', ranks = [$ranks]}" "$@"
done
for epsilon in 0.1 100.0; do
    under "ipm-$epsilon" "{kind = 'ipm', ranks = [$ranks], epsilon = $epsilon}" "$@"
done
